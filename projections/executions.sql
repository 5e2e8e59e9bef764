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
    inputs_deadline timestamptz,
    facets uuid[] not null  -- the runtime's, then those that are counted
);
create index executions_created_idx on executions (created_at, execution_id);
create index executions_status_idx on executions (status, created_at, execution_id);
create index executions_batch_idx on executions (batch_id, created_at, execution_id) where batch_id is not null;
create index executions_name_idx on executions (name, created_at, execution_id) where name is not null;
create index executions_reason_idx on executions (failure_reason, created_at, execution_id)
    where failure_reason is not null;
create index executions_started_idx on executions (started_at, execution_id);
create index executions_completed_idx on executions (completed_at, execution_id);
create index executions_duration_idx on executions (duration_ms, execution_id);
create index executions_cost_idx on executions (cost_micros, execution_id);
create index executions_facets_idx on executions using gin (facets);
create index executions_deadline_idx on executions (inputs_deadline) where status = 'awaiting_inputs';

-- How many executions of a name, a batch, a pair of metadata (or of all: the facet 0) were created in the `hours` from
-- `bucket` on, and how they stand. A failure reason of none is ''. There are no rows of none.
create table executions_counts (
    facet uuid not null,
    hours smallint not null,
    bucket timestamptz not null,
    status text collate "C" not null,
    failure_reason text collate "C" not null,
    runtime text collate "C" not null,
    matches bigint not null,
    primary key (facet, hours, bucket, status, failure_reason, runtime)
) with (fillfactor = 70);
