-- Which declared input of which execution has been uploaded, as what object. Rows go when the inputs are complete.
create table rgrid.uploads (
    execution_id text collate "C" not null,
    name text collate "C" not null,
    sha256 text collate "C" not null,
    size_bytes bigint not null,
    uploaded_at timestamptz not null default clock_timestamp(),
    primary key (execution_id, name)
);
create index uploads_uploaded_idx on rgrid.uploads (uploaded_at);
create index uploads_sha256_idx on rgrid.uploads (sha256);

-- Objects that lost a holder, or never had one: from `look_at` on they are removed unless somebody holds them.
create table rgrid.released_objects (
    sha256 text collate "C" primary key,
    look_at timestamptz not null default clock_timestamp()
);
create index released_objects_look_idx on rgrid.released_objects (look_at);

-- Executions whose log lines are no longer kept and have still to be deleted.
create table rgrid.expired_logs (execution_id text collate "C" primary key);
