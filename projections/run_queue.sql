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
