"""Backups: made, kept for a while, verified, and restored from.

* `repository`: the folder, and how a backup is written into it; `place`: where the folder was last.
* `identity`: which database a backup is of; `catalog`: which backups in a folder are of this one.
* `checksums`: what a database holds, in comparable form.
* `base_backup`: a copy of the embedded cluster, which with `wal_archive` and `wal_segments` gives
  any second back; `dump`: one state of any PostgreSQL. `create` chooses between the two.
* `recovery`: a backup, started aside in the state that is wanted; `restore` puts that in the place
  of the database, `verify` compares it with what was there.
* `status`: what health, metrics, the log and doctor say of all this.
"""
