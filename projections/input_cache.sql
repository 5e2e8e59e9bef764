create table input_cache (
    input_hash text collate "C" not null,
    name text collate "C" not null,
    sha256 text collate "C" not null,
    size_bytes bigint not null,
    expires_at timestamptz not null,
    primary key (input_hash, name)
);
create index input_cache_file_idx on input_cache (sha256, name);
create index input_cache_expires_idx on input_cache (expires_at);
