-- Where every subscriber of the log stands. `ready` marks the version whose tables are live in `rm`; a row that is not
-- ready belongs to a rebuild in `rm_next`. `tables` are the tables of that version, so that a later one can drop them.
create schema if not exists rm;
create schema if not exists rm_next;

create table rgrid.checkpoints (
    subscriber text collate "C" not null,
    version integer not null,
    position bigint not null,
    ready boolean not null,
    tables text[] not null default '{}',
    updated_at timestamptz not null default now(),
    primary key (subscriber, version)
) with (fillfactor = 50);
create unique index checkpoints_live_idx on rgrid.checkpoints (subscriber) where ready;

-- Events a subscriber could not take. `waits_for` is null for the event that failed (the poison event), and names its
-- position for the later events of the same stream, which wait behind it. The event itself stays in the log.
create table rgrid.dead_letters (
    subscriber text collate "C" not null,
    version integer not null,
    position bigint not null,
    stream_id text collate "C" not null,
    topic text collate "C" not null,
    waits_for bigint,
    error text not null,
    attempts integer not null,
    wanted text check (wanted in ('retry', 'skip')),
    parked_at timestamptz not null default now(),
    skipped_at timestamptz,
    primary key (subscriber, version, position)
);
create index dead_letters_stream_idx on rgrid.dead_letters (subscriber, version, stream_id, position)
    where skipped_at is null;
create index dead_letters_wanted_idx on rgrid.dead_letters (subscriber, version) where wanted is not null;
