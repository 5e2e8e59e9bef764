create table cost_executions (
    execution_id text collate "C" primary key,
    created_by text not null,
    batch_id text collate "C",
    script_sha256 text collate "C" not null,
    runtime text collate "C" not null,
    user_metadata jsonb,
    reserved_micros bigint not null,
    ended boolean not null default false,
    duration_ms bigint,
    completed_at timestamptz
);
create index cost_executions_open_idx on cost_executions (reserved_micros) where not ended;
create index cost_executions_script_idx on cost_executions (script_sha256, completed_at desc)
    where completed_at is not null;
create index cost_executions_runtime_idx on cost_executions (runtime, completed_at desc) where completed_at is not null;
create table cost_attempts (
    execution_id text collate "C" not null,
    attempt integer not null,
    day date not null,
    duration_ms bigint not null,
    cost_micros bigint not null,
    primary key (execution_id, attempt)
);
create index cost_attempts_day_idx on cost_attempts (day, execution_id) include (duration_ms, cost_micros);
