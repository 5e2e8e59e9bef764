create table schedule_names (
    schedule_id text collate "C" primary key,
    name text collate "C" not null,
    constraint schedule_names_taken unique (name)
);
