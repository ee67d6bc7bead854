"""Everything of taskapp that is not HTTP.

The house, and the one direction in which its rooms may import each other::

    server.py  ->  handlers/  ->  taskapp/  ->  schema/

* `operations/`: register, log in, create a task: validate, write, return the row or raise.
* `queries/`: one module a table; hand-written SQLAlchemy Core, the owner first.
* `database`: the only place that knows aiopg; `embedded`: the only one that knows the
  PostgreSQL inside; `migrations`: the only one that knows alembic.
* `settings`, `validation`, `errors`, `tokens`, `passwords`, `limits`, `logs`, `metrics`: one
  purpose each, named by it.
* `backups/`: the backups, and the archive that makes every second after one restorable.
* `services`: what an operation may use, in one object; `database_server` and `startup`: which
  PostgreSQL it is, and when it can be used.
* `commands`: the command line; `doctor`: what is right and wrong with a set-up.

One verb, one meaning: `find_` gives a row or None, `require_` a row or raises NotFound, `list_`
many rows, `count_` a number; `insert_`, `update_` and `delete_` write.
"""
