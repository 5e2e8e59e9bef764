-- Lines may also have to be deleted because they have moved to the object store: those up to a sequence number.
alter table rgrid.expired_logs add column to_sequence bigint not null default 9223372036854775807;
