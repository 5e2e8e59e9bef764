create table run_queue (
    execution_id text collate "C" primary key,
    lane text collate "C" not null,
    runtime text collate "C" not null,
    cpu double precision not null,
    memory_mb integer not null,
    not_before timestamptz not null,
    expires_at timestamptz,
    queued_position bigint not null
);
create index run_queue_lane_idx on run_queue (lane, queued_position);
create index run_queue_not_before_idx on run_queue (not_before);
create index run_queue_expires_idx on run_queue (expires_at) where expires_at is not null;

-- What holds for the lane of a batch. The check is what keeps two workers that claim at once within `max_parallel`:
-- it fails the later claim. Nothing is claimed from a lane that is held, because its batch is being stopped; the lane of
-- a batch that fails fast is held from its first failure on.
create table run_queue_lanes (
    lane text collate "C" primary key,
    max_parallel integer,
    fail_fast boolean not null,
    running integer not null default 0,
    is_held boolean not null default false,
    constraint lane_is_full check (running between 0 and coalesce(max_parallel, 2147483647))
);

-- What runs now in lanes with a limit or that fail fast.
create table run_queue_running (
    execution_id text collate "C" primary key,
    lane text collate "C" not null
);
