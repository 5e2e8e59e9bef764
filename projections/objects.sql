create table objects (
    sha256 text collate "C" primary key,
    size_bytes bigint not null,
    holders bigint not null,
    is_kept boolean not null
);
create index objects_held_idx on objects (size_bytes) where holders > 0 or is_kept;
