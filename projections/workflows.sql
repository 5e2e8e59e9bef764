create table workflows (
    workflow_name text collate "C" primary key,
    domain text collate "C",
    description text,
    version integer not null,
    step_count integer not null,
    is_active boolean not null,
    tags text[] not null,
    parameters text not null,
    targets text[] not null,
    created_at timestamptz not null,
    created_by text collate "C" not null,
    updated_at timestamptz not null
);
create index workflows_created_idx on workflows (created_at, workflow_name);
create index workflows_updated_idx on workflows (updated_at, workflow_name);
create index workflows_domain_idx on workflows (domain, workflow_name) where domain is not null;
create index workflows_tags_idx on workflows using gin (tags);
create index workflows_targets_idx on workflows using gin (targets);

-- Of every name that a run was ever triggered of, whether it is defined now or not.
create table workflow_last_runs (
    workflow_name text collate "C" primary key,
    run_id text collate "C" not null unique,
    triggered_at timestamptz not null,
    status text collate "C" not null
);
