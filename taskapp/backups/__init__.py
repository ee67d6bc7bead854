"""Backups: made, rotated, verified and restored.

* `repository`: the backup folder, and how a backup is written to it. `unmounted_disk` tells whether
  that folder is gone.
* `identity`: which database a backup is of; `catalog`: which backups in a folder are of this one.
* `checksums`: the contents of a database in a form that can be compared.
* `base_backup`: a copy of the embedded cluster, from which `wal_archive` and `wal_segments` lead to
  any later second; `dump`: one state of any PostgreSQL. `create` chooses between the two.
* `recovery`: starts a backup at a target state, in a cluster of its own. `restore` replaces the
  database by that, `verify` compares it with the description of the backup.
* `status`: the state of the backups, for health, metrics, the log and doctor.
"""
