-- The log. Table and columns are those of the `eventsourcing` library (its own recorder can read them);
-- recorded_at and cause stand beside the state. Positions are dense: they are given under the append lock.
create table rgrid.stored_events (
    originator_id text collate "C" not null,
    originator_version bigint not null,
    topic text collate "C" not null,
    state bytea not null,
    notification_id bigint not null,
    recorded_at timestamptz not null,
    cause bytea not null,
    primary key (originator_id, originator_version)
);
create unique index stored_events_notification_id_idx on rgrid.stored_events (notification_id);
create index stored_events_recorded_at_idx on rgrid.stored_events using brin (recorded_at);
alter table rgrid.stored_events set (autovacuum_vacuum_insert_scale_factor = 0.05);

-- Appends the events of many commands in one go. A command of which any (stream, version) is taken is left out whole
-- and named in `losers`. The lock is held to the commit, so position order is commit order over all processes.
create function rgrid.append_events(
    p_command int[], p_stream text[], p_version bigint[], p_topic text[], p_state bytea[], p_cause bytea[],
    out head bigint, out stamped_at timestamptz, out losers int[]
)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    last_at timestamptz;
    added bigint;
begin
    perform pg_advisory_xact_lock(824177293);
    select notification_id, recorded_at into head, last_at
        from rgrid.stored_events order by notification_id desc limit 1;
    head := coalesce(head, 0);
    stamped_at := greatest(clock_timestamp(), last_at);
    losers := array(
        select distinct i.command
        from unnest(p_command, p_stream, p_version) as i(command, stream, version)
        join rgrid.stored_events s on s.originator_id = i.stream and s.originator_version = i.version
    );
    insert into rgrid.stored_events
        (originator_id, originator_version, topic, state, cause, notification_id, recorded_at)
    select i.stream, i.version, i.topic, i.state, i.cause,
           head + row_number() over (order by i.ordinal), stamped_at
    from unnest(p_command, p_stream, p_version, p_topic, p_state, p_cause) with ordinality
        as i(command, stream, version, topic, state, cause, ordinal)
    where i.command <> all (losers)
    order by i.ordinal;
    get diagnostics added = row_count;
    if added > 0 then
        perform pg_notify('rgrid_events', (head + added)::text);
    end if;
end
$$;
