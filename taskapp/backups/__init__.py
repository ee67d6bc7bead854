"""Backups: made, kept for a while, verified, and restored from.

* `folder`: what lies where, and how long; `contents`: what a database holds, in comparable form.
* `base`: a copy of the embedded cluster, which with the archive of `wal` gives any second back;
  `dump`: one moment of any PostgreSQL. `making` chooses between the two.
* `recovery`: a backup, started aside at the moment that is wanted; `restoring` puts that in the
  place of the database, `verifying` compares it with what was there.
* `status`: what health, metrics and doctor say of all this.
"""
