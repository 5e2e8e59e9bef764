-- `step` is '' and `attempt` 0 for the timer of a whole run; the attempt of a retry is the one that failed.
create table run_timers (
    run_id text collate "C" not null,
    kind text collate "C" not null,
    step text collate "C" not null,
    attempt integer not null,
    due_at timestamptz not null,
    primary key (run_id, step, kind)
);
create index run_timers_due_idx on run_timers (due_at, run_id, step, kind);
