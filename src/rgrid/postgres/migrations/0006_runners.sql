-- The last sign of life of each worker. Durable, because a worker without a row would be taken for silent.
create table rgrid.worker_heartbeats (
    worker_id text collate "C" primary key,
    last_heartbeat_at timestamptz not null
) with (fillfactor = 50);
