"""PostgreSQL as a client sees it: connections, statements, transactions, migrations."""
