-- States of long streams as of a version. Never needed: what the events say is true, and this may be emptied any time.
-- `shape` names the decisions and the form that a state was made for; a program of another shape passes it over.
create table rgrid.snapshots (
    stream_id text collate "C" primary key,
    shape text not null,
    version bigint not null,
    state bytea not null,
    taken_at timestamptz not null default now()
);
