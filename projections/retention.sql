create table retention (
    execution_id text collate "C" primary key,
    completed_at timestamptz,
    has_objects boolean not null,
    has_lines boolean not null,
    has_rows boolean not null
);
create index retention_objects_idx on retention (completed_at) where has_objects;
create index retention_lines_idx on retention (completed_at) where has_lines;
create index retention_rows_idx on retention (completed_at) where has_rows;
