create table workflow_runs (
    run_id text collate "C" primary key,
    workflow_name text collate "C" not null,
    workflow_version integer not null,
    domain text collate "C",
    partition text,
    trigger text collate "C" not null,
    triggered_by text collate "C" not null,
    parent_run_id text collate "C",
    schedule_id text collate "C",
    retry_of text collate "C",
    created_at timestamptz not null,
    total_steps integer not null,
    facets uuid[] not null,  -- what is counted by
    status text collate "C" not null,
    started_at timestamptz,
    completed_at timestamptz,
    duration_ms bigint,
    completed_steps integer not null,
    failed_steps integer not null,
    skipped_steps integer not null,
    error text,
    is_timed_out boolean not null,
    retried jsonb not null  -- the steps that failed and are to be tried again
);
create index workflow_runs_created_idx on workflow_runs (created_at, run_id);
create index workflow_runs_status_idx on workflow_runs (status, created_at, run_id);
create index workflow_runs_active_idx on workflow_runs (run_id) where status in ('PENDING', 'RUNNING', 'CANCELLING');
create index workflow_runs_name_idx on workflow_runs (workflow_name, created_at, run_id);
create index workflow_runs_domain_idx on workflow_runs (domain, created_at, run_id) where domain is not null;
create index workflow_runs_trigger_idx on workflow_runs (trigger, created_at, run_id);
create index workflow_runs_actor_idx on workflow_runs (triggered_by, created_at, run_id);
create index workflow_runs_parent_idx on workflow_runs (parent_run_id, created_at, run_id)
    where parent_run_id is not null;
create index workflow_runs_schedule_idx on workflow_runs (schedule_id, created_at, run_id)
    where schedule_id is not null;
create index workflow_runs_retry_idx on workflow_runs (retry_of) where retry_of is not null;
create index workflow_runs_started_idx on workflow_runs (started_at, run_id);
create index workflow_runs_completed_idx on workflow_runs (completed_at, run_id);
create index workflow_runs_duration_idx on workflow_runs (duration_ms, run_id);
create index workflow_runs_by_name_idx on workflow_runs (workflow_name, run_id);

-- How many runs of a workflow, a domain, an actor, a parent, a schedule (or of all: the facet 0) were created in the
-- `hours` from `bucket` on, and how they stand. There are no rows of none.
create table workflow_runs_counts (
    facet uuid not null,
    hours smallint not null,
    bucket timestamptz not null,
    status text collate "C" not null,
    trigger text collate "C" not null,
    matches bigint not null,
    primary key (facet, hours, bucket, status, trigger)
) with (fillfactor = 70);
