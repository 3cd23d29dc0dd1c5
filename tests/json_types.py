"""The type of decoded JSON, which tests read by its keys."""

from typing import Any, TypeAlias

JSONObject: TypeAlias = dict[str, Any]
