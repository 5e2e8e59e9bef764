create table run_tries_runs (
    run_id text collate "C" primary key,
    workflow_name text collate "C" not null,
    parent_run_id text collate "C",
    parent_step text collate "C",
    parent_attempt integer
);
create index run_tries_runs_parent_idx on run_tries_runs (parent_run_id, parent_step, parent_attempt, run_id)
    where parent_run_id is not null;

create table run_tries (
    run_id text collate "C" not null,
    step text collate "C" not null,
    attempt integer not null,
    workflow_name text collate "C" not null,
    execution_id text collate "C",
    position bigint not null,
    started_at timestamptz not null,
    duration_ms bigint,  -- of those that came to their end
    primary key (run_id, step, attempt)
);
create index run_tries_lately_idx on run_tries (workflow_name, step, position) where duration_ms is not null;
create index run_tries_executions_idx on run_tries (run_id, position) where execution_id is not null;
