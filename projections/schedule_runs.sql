create table schedule_runs (
    schedule_run_id text collate "C" primary key,
    schedule_id text collate "C" not null,
    scheduled_at timestamptz not null,
    trigger text collate "C" not null,
    status text collate "C" not null,
    backfill_id text collate "C",
    start_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    target_id text collate "C",
    error text,
    skip_reason text,
    -- Put off by jitter: the ticker starts it.
    is_delayed boolean not null
);
create index schedule_runs_scheduled_idx on schedule_runs (scheduled_at, schedule_run_id);
create index schedule_runs_started_idx on schedule_runs (started_at, schedule_run_id);
create index schedule_runs_of_schedule_idx on schedule_runs (schedule_id, scheduled_at, schedule_run_id);
create index schedule_runs_pending_idx on schedule_runs (start_at) where status = 'PENDING';
create index schedule_runs_status_idx on schedule_runs (status, scheduled_at, schedule_run_id);

-- What every run of a schedule has from it.
create table schedule_run_owners (
    schedule_id text collate "C" primary key,
    schedule_name text not null,
    target_type text not null
);
