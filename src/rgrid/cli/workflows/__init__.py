"""`rgrid workflows`: definitions, runs and their graphs on the command line."""
