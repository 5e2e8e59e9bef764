create table batches (
    batch_id text collate "C" primary key,
    name text,
    is_open boolean not null,
    max_parallel integer,
    fail_fast boolean not null,
    failures_max integer,
    user_metadata jsonb,
    created_by text not null,
    created_at timestamptz not null,
    status text collate "C" not null,
    cancel_asked boolean not null,
    started_at timestamptz,
    last_ended_at timestamptz,
    completed_at timestamptz,
    -- Counts of the latest execution of each index.
    declared integer not null,
    total integer not null,
    awaiting_inputs integer not null,
    queued integer not null,
    running integer not null,
    completed integer not null,
    failed integer not null,
    cancelled integer not null,
    timed_out integer not null,
    begun integer not null,
    timed integer not null,
    timed_ms bigint not null,
    -- All executions, also those that were retried, and whether the log says that all of it has ended.
    submitted integer not null,
    end_is_told boolean not null,
    -- Over all executions, also those that were retried.
    total_cost_micros bigint not null,
    position bigint not null
);
create index batches_created_idx on batches (created_at, batch_id);
create index batches_status_idx on batches (status, created_at, batch_id);
create index batches_completed_idx on batches (completed_at, batch_id);
create index batches_ended_idx on batches (completed_at)
    where completed_at is not null and not end_is_told and not is_open;
create index batches_total_idx on batches (total, batch_id);

create table batch_items (
    execution_id text collate "C" primary key,
    batch_id text collate "C" not null,
    batch_index integer not null,
    position bigint not null,
    is_latest boolean not null,
    status text collate "C" not null,
    input_file text,
    retry_of text collate "C",
    superseded_by text collate "C",
    exit_code integer,
    failure_reason text collate "C",
    execution_error text,
    duration_ms bigint,
    cost_micros bigint not null,
    created_at timestamptz not null,
    started_at timestamptz,
    completed_at timestamptz
);
create index batch_items_index_idx on batch_items (batch_id, batch_index, position);
create index batch_items_unfinished_idx on batch_items (batch_id) where completed_at is null;
