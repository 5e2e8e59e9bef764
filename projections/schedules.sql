create table schedules (
    schedule_id text collate "C" primary key,
    name text collate "C" not null,
    target_type text collate "C" not null,
    target_name text collate "C" not null,
    params_sha256 text,
    params_size_bytes bigint not null,
    cron text,
    interval_s bigint,
    run_at timestamptz,
    timezone text not null,
    dst_gap text not null,
    dst_fold text not null,
    start_at timestamptz,
    end_at timestamptz,
    exclusions jsonb not null,
    max_instances integer not null,
    overlap_policy text not null,
    misfire_policy text not null,
    misfire_grace_s integer not null,
    catch_up_limit integer not null,
    jitter_s integer not null,
    pause_after_failures integer,
    description text,
    tags text[] not null,
    note text,
    created_by text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- From when an interval counts.
    anchored_at timestamptz not null,
    deleted_at timestamptz,
    -- What firing changes.
    enabled boolean not null default true,
    next_run_at timestamptz,
    waiting jsonb not null default '[]',
    last_run_id text collate "C",
    last_run_at timestamptz,
    last_run_status text,
    run_count bigint not null default 0,
    success_count bigint not null default 0,
    failure_count bigint not null default 0,
    consecutive_failures bigint not null default 0,
    version bigint not null default 0
);
create index schedules_created_idx on schedules (created_at, schedule_id) where deleted_at is null;
create index schedules_name_idx on schedules (name, schedule_id) where deleted_at is null;
create index schedules_last_idx on schedules (last_run_at, schedule_id) where deleted_at is null;
create index schedules_target_idx on schedules (target_type, target_name) where deleted_at is null;
create index schedules_tags_idx on schedules using gin (tags) where deleted_at is null;
-- The ticker's: what is due, the oldest first.
create index schedules_due_idx on schedules (next_run_at, schedule_id) where next_run_at is not null;
