-- Operational tables of executions: what is not a fact of the log, or too big or too short-lived for it.

-- Log lines, one sequence per execution over all attempts. fd: 1 stdout, 2 stderr.
create table rgrid.execution_logs (
    execution_id text collate "C" not null,
    sequence_number bigint not null,
    attempt integer not null,
    fd smallint not null check (fd in (1, 2)),
    logged_at timestamptz not null,
    message text not null,
    primary key (execution_id, sequence_number)
);
alter table rgrid.execution_logs set (autovacuum_vacuum_insert_scale_factor = 0.1);

-- Time-limited ownership of a running attempt. Written with the claim, removed with the attempt's end.
create table rgrid.leases (
    execution_id text collate "C" primary key,
    attempt integer not null,
    fencing_token bigint not null,
    worker_id text collate "C" not null,
    claimed_at timestamptz not null default clock_timestamp(),
    renewed_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,
    cancel_requested boolean not null default false
);
create index leases_worker_idx on rgrid.leases (worker_id);
create index leases_expires_idx on rgrid.leases (expires_at);

-- Keeps two workers from trying for the same execution; only a hint (the log decides), so it may be lost in a crash.
create unlogged table rgrid.claim_reservations (
    execution_id text collate "C" primary key,
    reserved_until timestamptz not null
);
