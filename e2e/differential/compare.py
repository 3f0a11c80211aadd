"""Two transcripts, field by field."""

from dataclasses import dataclass

from .normal import show

ABSENT = "(absent)"
SHOWN_MAX = 300


@dataclass(frozen=True)
class Difference:
    case: str
    step: int
    label: str
    api: str
    version: int
    path: str
    kafka: object
    esker: object

    @property
    def field(self):
        """The path without indexes and keys, as `allowed` names it."""
        return ".".join(part for part in self.path.split(".") if not part.startswith("["))


def lines(found):
    """Differences to read: those of one field that are alike, whatever the version or the item, take one line."""
    alike = {}
    for item in found:
        key = (item.case, item.label, item.api, item.field, show(item.kafka)[:SHOWN_MAX], show(item.esker)[:SHOWN_MAX])
        alike.setdefault(key, []).append(item)
    for (case, label, api, _, kafka, esker), items in alike.items():
        versions = ",".join(str(version) for version in sorted({item.version for item in items}))
        step = f"step {items[0].step}{f' ({label})' if label else ''}"
        paths = list(dict.fromkeys(item.path for item in items))
        others = f" and {len(paths) - 1} like it" if len(paths) > 1 else ""
        yield f"{case} {step}: {api} v{versions} {paths[0] or 'answer'}{others}: kafka {kafka}, esker {esker}"


def differences(kafka, esker):
    """Every field in which two normalised transcripts of one case differ."""
    found = []
    for step, (left, right) in enumerate(zip(kafka.exchanges, esker.exchanges, strict=False)):
        if (left.label, left.api, left.version) != (right.label, right.api, right.version):
            found.append(Difference(kafka.case, step, left.label, left.api, left.version, "script", left.label, right.label))
            return found
        for path, one, other in walk("", left.answer, right.answer):
            found.append(Difference(kafka.case, step, left.label, left.api, left.version, path, one, other))
    if len(kafka.exchanges) != len(esker.exchanges) or kafka.failure != esker.failure:
        step = min(len(kafka.exchanges), len(esker.exchanges))
        longer = max((kafka, esker), key=lambda transcript: len(transcript.exchanges))
        at = longer.exchanges[min(step, len(longer.exchanges) - 1)] if longer.exchanges else None
        ends = [transcript.failure or f"{len(transcript.exchanges)} answers" for transcript in (kafka, esker)]
        found.append(
            Difference(kafka.case, step, at.label if at else "", at.api if at else "", at.version if at else -1, "end", *ends)
        )
    return found


def walk(path, one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *(key for key in other if key not in one)]:
            # Dictionaries made from lists have keys that may hold dots: they stand in brackets like indexes.
            step = key if key.isidentifier() and key[:1].isupper() else f"[{key.replace('.', '·')}]"
            yield from walk(f"{path}.{step}" if path else step, one.get(key, ABSENT), other.get(key, ABSENT))
    elif isinstance(one, list) and isinstance(other, list):
        for index in range(max(len(one), len(other))):
            pair = [items[index] if index < len(items) else ABSENT for items in (one, other)]
            yield from walk(f"{path}.[{index}]", *pair)
    elif one != other:
        yield path, one, other
