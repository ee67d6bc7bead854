"""A cache of compiled templates for all applications of a test process."""

from typing import TYPE_CHECKING, Any

from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket

if TYPE_CHECKING:
    from types import CodeType


class CompiledTemplates(BytecodeCache):
    """Caches compiled templates, keyed by the constants that constant_folding.py inserts."""

    def __init__(self) -> None:
        self._code: dict[str, CodeType | None] = {}

    def get_bucket(
        self, environment: Environment, name: str, filename: str | None, source: str
    ) -> Bucket:
        known: Any = environment.globals
        bucket = Bucket(environment, f"{name} {known['language']} {known['path']('')}", "")
        self.load_bytecode(bucket)
        return bucket

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get(bucket.key)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key] = bucket.code
