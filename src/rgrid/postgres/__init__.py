"""The database: the embedded server, connections, migrations, and locks as leadership. Knows no domain."""
