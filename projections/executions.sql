create table executions (
    execution_id text collate "C" primary key,
    name text,
    status text collate "C" not null,
    failure_reason text collate "C",
    runtime text collate "C" not null,
    batch_id text collate "C",
    batch_index integer,
    exit_code integer,
    created_at timestamptz not null,
    queued_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    cost_micros bigint not null default 0,
    retry_count integer not null default 0,
    retry_of text collate "C",
    user_metadata jsonb,
    created_by text not null,
    inputs_deadline timestamptz
);
create index executions_created_idx on executions (created_at, execution_id);
create index executions_status_idx on executions (status, created_at, execution_id);
create index executions_batch_idx on executions (batch_id, created_at, execution_id) where batch_id is not null;
create index executions_name_idx on executions (name, created_at, execution_id) where name is not null;
create index executions_completed_idx on executions (completed_at, execution_id);
create index executions_metadata_idx on executions using gin (user_metadata jsonb_path_ops);
create index executions_deadline_idx on executions (inputs_deadline) where status = 'awaiting_inputs';
