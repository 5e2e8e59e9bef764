create table workers (
    worker_id text collate "C" primary key,
    status text collate "C" not null,
    hostname text collate "C" not null,
    pid integer not null,
    boot_id text not null,
    process_started_ticks bigint not null,
    runner_kind text collate "C" not null,
    sandbox_level text collate "C" not null,
    slots integer not null,
    runtimes text[] not null,
    cores integer,
    memory_mb integer,
    version text not null,
    draining boolean not null default false,
    started_at timestamptz not null,
    lost_at timestamptz,
    heard_at timestamptz,
    stopped_at timestamptz,
    changes integer not null
);
create index workers_status_idx on workers (status);
create index workers_started_idx on workers (started_at, worker_id);
