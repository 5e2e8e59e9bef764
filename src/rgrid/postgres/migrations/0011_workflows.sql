-- Operational tables of workflow runs: who runs which handler now, and which tries may lend their output to others.

-- The processes that run handlers, each with its last sign of life. Short-lived, so one row stands for all that it runs.
create table rgrid.handler_holders (
    holder text collate "C" primary key,
    expires_at timestamptz not null
) with (fillfactor = 50);

-- Tries of handlers under way, written with the start of the step and removed with its end. The token grows whenever
-- another process takes over: a result under an earlier one comes too late.
create table rgrid.handler_leases (
    run_id text collate "C" not null,
    step text collate "C" not null,
    attempt integer not null,
    holder text collate "C" not null,
    token bigint not null default 1,
    taken_at timestamptz not null default clock_timestamp(),
    primary key (run_id, step, attempt)
);
create index handler_leases_holder_idx on rgrid.handler_leases (holder);

-- In one statement, because it commits with each transition: one try ends, others begin.
create function rgrid.pass_handlers(
    run text, ended_step text, ended_attempt integer, held_token bigint, steps text[], attempts integer[], by_holder text
) returns void language plpgsql as $$
begin
    if ended_step is not null then
        delete from rgrid.handler_leases l
        where l.run_id = run and l.step = ended_step and l.attempt = ended_attempt and l.token = held_token;
        if not found then
            raise exception 'another process runs this handler now'
                using errcode = 'check_violation', constraint = 'handler_lease_lost';
        end if;
    end if;
    if cardinality(steps) > 0 then
        insert into rgrid.handler_leases (run_id, step, attempt, holder)
        select run, s.step, s.attempt, by_holder from unnest(steps, attempts) as s(step, attempt)
        on conflict do nothing;
    end if;
end
$$;

-- What steps with a cache began with, as a hash; the outputs are in the runs.
create table rgrid.step_inputs (
    inputs_sha256 bytea not null,
    run_id text collate "C" not null,
    step text collate "C" not null,
    attempt integer not null,
    begun_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    primary key (inputs_sha256, run_id, step, attempt)
);
create index step_inputs_expires_idx on rgrid.step_inputs (expires_at);
