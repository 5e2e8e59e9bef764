"""The neighbours of rgrid, one file each: object store, signed addresses, secrets, the master key. Knows no domain."""
