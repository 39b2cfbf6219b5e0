"""The form that the user fills in, and the settings of a job: one table of fields serves both.

A new field is an entry in FIELDS and an attribute of Settings. This module does not import numpy or
torch, because the user waits for the form.
"""

import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewshot import messages
from fewshot.errors import JobError
from fewshot.geometry import Location
from fewshot.messages import Message
from fewshot.sam.checkpoints import KNOWN, MODELS, Checkpoint, checkpoint_path, list_present

SKIP, REPLACE, KEEP = 'skip duplicates', 'replace earlier results', 'keep all'
EXACT, FAST, FASTEST = 'exact', 'fast', 'fastest'
BATCH_AXES = {'Batch XY': 'XY', 'Batch Z': 'Z', 'Batch Time': 'Time'}
ALL = 'all'
# Key in the parameters of a job that searches a share of a batch: {annotation id: digest}.
SHARE_EXAMPLES = 'fewshotExamples'
MIN_POINTS_PER_SIDE, MAX_POINTS_PER_SIDE = 16, 128
MAX_MASK_AREA = 100_000  # pixels
MAX_INDEX = 10**12
MAX_TAG_CHARACTERS = 1_000  # a tag must fit into a URL

MAX_SHOWN_CHARACTERS = 60  # of a value in a message
SHORT_REPR = reprlib.Repr()
SHORT_REPR.maxstring = SHORT_REPR.maxlong = SHORT_REPR.maxother = MAX_SHOWN_CHARACTERS
SHORT_REPR.maxlist = SHORT_REPR.maxdict = 12  # entries


# The fields of the form


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the form.

    Attributes
    ----------
    name : str
        The key under which the server stores the value, and the label.
    tooltip : str
        Help for the user.
    """

    name: str
    tooltip: str = ''

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        return {'tooltip': self.tooltip}

    def read(self, form: Mapping[str, Any]) -> Any:
        """Return the value of the field from the saved form, checked.

        Raises
        ------
        JobError
            The value is not valid for this field.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class TagsField(Field):
    """A list of tags."""

    required: bool = False

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        required = {'required': True} if self.required else {}
        return {'type': 'tags', **required, **super().schema()}

    def read(self, form: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the tags. An empty list is an error if the field is required."""
        tags = read_tags(form, self.name)
        if self.required and not tags:
            raise messages.NO_TRAINING_TAG.error()
        return tags


@dataclass(frozen=True, kw_only=True)
class BatchField(Field):
    """The locations of one axis, as text."""

    label: str

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        texts = {
            'placeholder': 'ex. 1-3, 5-8, or all',
            'persistentPlaceholder': True,  # else the page hides it until the field is clicked
            'label': self.label,
        }
        return {'type': 'text', 'vueAttrs': texts, **super().schema()}

    def read(self, form: Mapping[str, Any]) -> str:
        """Return the text. It must be one that `parse_ranges` accepts."""
        text = form.get(self.name, '')
        if isinstance(text, int) and not isinstance(text, bool):
            text = show(text)
        if not isinstance(text, str):
            raise messages.NOT_LOCATIONS.error(field=self.name, problem=f'{show(text)} is not text')
        try:
            parse_ranges(text)
        except ValueError as error:
            raise messages.NOT_LOCATIONS.error(field=self.name, problem=error) from None
        return text


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """A number with a range. A step of 1 means whole numbers."""

    default: float
    low: float
    high: float
    step: float
    unit: str = ''

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        unit = {'unit': self.unit} if self.unit else {}
        return {
            'type': 'number',
            'min': self.low,
            'max': self.high,
            'step': self.step,
            **unit,
            'default': self.default,
            **super().schema(),
        }

    def read(self, form: Mapping[str, Any]) -> float:
        """Return the number, which may be stored as text. It must be in the range."""
        value = form.get(self.name, self.default)
        number = to_number(value)
        if number is None:
            raise self.refusal(messages.NOT_A_NUMBER, value)
        if not self.low <= number <= self.high:
            raise self.refusal(messages.OUT_OF_RANGE, value)
        if self.step != 1:
            return number
        if number != int(number):
            raise self.refusal(messages.NOT_WHOLE, value)
        return int(number)

    def refusal(self, message: Message, value: Any) -> JobError:
        """Return the error for a value."""
        return message.error(field=self.name, seen=show(value), low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True)
class SelectField(Field):
    """One of several choices."""

    items: tuple[str, ...]

    @property
    def default(self) -> str:
        """The first choice."""
        return self.items[0]

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        return {
            'type': 'select',
            'items': list(self.items),
            'default': self.default,
            'required': True,  # else the page shows a cross that clears the field
            **super().schema(),
        }

    def read(self, form: Mapping[str, Any]) -> str:
        """Return the choice. It must be one of `items`."""
        choice = form.get(self.name, self.default)
        if choice not in self.items:
            raise messages.NOT_A_CHOICE.error(
                field=self.name, seen=show(choice), choices=', '.join(self.items)
            )
        return choice


@dataclass(frozen=True, kw_only=True)
class ModelField(Field):
    """The checkpoint. MODELS are always offered, the other known ones if their file exists."""

    def list_offered(self) -> list[str]:
        """Return the names of the models that the form offers."""
        present = [checkpoint.name for checkpoint in list_present()]
        return MODELS + [name for name in present if name not in MODELS]

    def schema(self) -> dict[str, Any]:
        """Return the field as the server wants it."""
        return {
            'type': 'select',
            'items': self.list_offered(),
            'default': MODELS[0],
            'required': True,
            **super().schema(),
        }

    def read(self, form: Mapping[str, Any]) -> Checkpoint:
        """Return the checkpoint. It must be a known one, and its file must exist."""
        name = form.get(self.name)
        if not isinstance(name, str) or name not in KNOWN:
            raise messages.UNKNOWN_MODEL.error(
                seen=show(name), known=', '.join(self.list_offered())
            )
        path = checkpoint_path(KNOWN[name])
        if not os.path.exists(path):
            raise messages.CHECKPOINT_MISSING.error(model=name, path=path)
        return KNOWN[name]


BATCH_HELP = 'Blank means the one that you look at; "all" means every one.'

FIELDS: tuple[Field, ...] = (
    TagsField(
        name='Training Tag',
        required=True,
        tooltip='The tag of your examples, 5-20 typical objects. Outline them with a Blob, Circle '
        'or Ellipse tool; not Rectangle, Point or Line.',
    ),
    TagsField(
        name='Negative Tag',
        tooltip='The tag of counter-examples: outlines of objects that you do not want. Tag a few '
        'wrong objects of the last run, choose the tag here and run again.',
    ),
    BatchField(
        name='Batch XY',
        label='XY positions to search',
        tooltip=f'The XY positions to search. {BATCH_HELP}',
    ),
    BatchField(
        name='Batch Z', label='Z slices to search', tooltip=f'The Z slices to search. {BATCH_HELP}'
    ),
    BatchField(
        name='Batch Time',
        label='Time points to search',
        tooltip=f'The time points to search. {BATCH_HELP}',
    ),
    ModelField(
        name='Model',
        tooltip='The SAM model that proposes outlines and compares them with your examples.',
    ),
    NumberField(
        name='Similarity Threshold',
        default=0.5,
        low=0,
        high=1,
        step=0.01,
        tooltip='How similar an object must be to your examples, from 0 (keep everything) to 1 '
        '(only copies). Raise it when wrong objects appear, lower it when objects are missing.',
    ),
    NumberField(
        name='Target Occupancy',
        default=0.20,
        low=0.05,
        high=0.80,
        step=0.01,
        tooltip='The fraction of the crop that the object fills when it is compared. '
        'Lower shows more of its surroundings, higher shows the object alone.',
    ),
    NumberField(
        name='Points per side',
        default=128,
        low=MIN_POINTS_PER_SIDE,
        high=MAX_POINTS_PER_SIDE,
        step=1,
        tooltip='SAM looks for objects at a grid of this many points by as many. More points find '
        'smaller objects; twice as many take four times as long.',
    ),
    NumberField(
        name='Min Mask Area',
        default=30,
        low=0,
        high=MAX_MASK_AREA,
        step=1,
        unit='pixels',
        tooltip='Smaller objects are ignored. Half the area of your smallest example is a good '
        'value.',
    ),
    NumberField(
        name='Max Mask Area',
        default=0,
        low=0,
        high=MAX_MASK_AREA,
        step=1,
        unit='pixels',
        tooltip='Larger objects are ignored; 0 means no limit. Twice the area of your largest '
        'example is a good value.',
    ),
    NumberField(
        name='Smoothing',
        default=0.3,
        low=0,
        high=3,
        step=0.1,
        unit='pixels',
        tooltip='How far an outline may be moved to make it simpler. 0 keeps every step of the '
        'mask.',
    ),
    SelectField(
        name='Existing Outlines',
        items=(SKIP, REPLACE, KEEP),
        tooltip=f'"{SKIP}" adds only objects without an outline; "{KEEP}" adds every object found. '
        f'"{REPLACE}" removes what earlier runs with the same output tags made in these frames.',
    ),
    SelectField(
        name='Speed',
        items=(EXACT, FAST, FASTEST),
        tooltip=f'"{FAST}" gives nearly the same result in less time on a recent GPU. "{FASTEST}" '
        'also compares objects without enlarging them: only for those wider than 1/30 of the '
        'frame.',
    ),
    NumberField(
        name='Tile Size',
        default=0,
        low=0,
        high=4096,
        step=1,
        unit='pixels',
        tooltip='Searches each frame in tiles of this size, because SAM loses small objects in a '
        'large frame. 0 searches the whole frame at once.',
    ),
    NumberField(
        name='Jobs',
        default=1,
        low=1,
        high=64,
        step=1,
        tooltip='Splits the batch into this many jobs, which run side by side where the server has '
        'several GPUs. This page follows only the first job, and Cancel ends only that one.',
    ),
)

# Precision of the encoder, and whether objects are described by the features of the whole frame.
SPEEDS = {EXACT: ('float32', False), FAST: ('bfloat16', False), FASTEST: ('bfloat16', True)}

# Fields of earlier versions. A saved tool may have them instead of those of today.
OLD_DUPLICATES = SelectField(name='Duplicates', items=('skip', 'keep'))
OLD_PRECISION = SelectField(name='Encoder Precision', items=('float32', 'bfloat16'))
OLD_SOURCE = SelectField(name='Feature Source', items=('object crops', 'whole frame'))


def build_interface() -> dict[str, dict[str, Any]]:
    """Return the form for the server, {name: field}, with the models that this machine has."""
    return {
        field.name: {**field.schema(), 'displayOrder': order} for order, field in enumerate(FIELDS)
    }


# The settings of a job


@dataclass(frozen=True)
class Settings:
    """The settings of one job, every value checked.

    Attributes
    ----------
    training_tags, negative_tags : tuple of str
        Tags of the examples and of the counter-examples.
    batches : Mapping
        The text of each batch field, by the field's name.
    checkpoint : Checkpoint
    threshold : float
        Smallest cosine similarity, 0 to 1.
    occupancy : float
        Fraction of a crop's area that the object fills.
    points_per_side : int
    min_area, max_area : int
        Pixels. A `max_area` of 0 means no limit.
    smoothing : float
        Pixels.
    existing : {SKIP, REPLACE, KEEP}
        How outlines that are on the server are treated.
    tile_size : int
        Pixels. 0 means whole frames.
    jobs : int
        Number of jobs for the batch.
    precision : {'float32', 'bfloat16'}
        Precision of the image encoder. bfloat16 is used where the hardware has it.
    whole_frame : bool
        Whether objects are described by the features of the whole frame.
    tags : tuple of str
        Tags of new annotations.
    channel : int
        Channel of new annotations, from 0.
    location : Location
        The location that the user looks at.
    connect_to : Mapping or None
        The annotations to connect with. None for no connections.
    share_examples : Mapping or None
        {annotation id: digest} of the examples of the whole batch, if this job searches a share
        of it.
    """

    training_tags: tuple[str, ...]
    negative_tags: tuple[str, ...]
    batches: Mapping[str, str]
    checkpoint: Checkpoint
    threshold: float
    occupancy: float
    points_per_side: int
    min_area: int
    max_area: int
    smoothing: float
    existing: str
    tile_size: int
    jobs: int
    precision: str
    whole_frame: bool
    tags: tuple[str, ...]
    channel: int
    location: Location
    connect_to: Mapping[str, Any] | None
    share_examples: Mapping[str, str] | None


def read_settings(params: Any) -> Settings:
    """Return the settings of a job. Check everything that can be checked without the server.

    Parameters
    ----------
    params : dict
        The parameters of the job as the server sends them. The values of the form are in
        `workerInterface`.

    Raises
    ------
    JobError
        A setting is missing, malformed or out of range, or the checkpoint file is missing.
    """
    if not isinstance(params, Mapping):
        raise messages.NO_PARAMETERS.error()
    form = params.get('workerInterface')
    if not isinstance(form, Mapping):
        raise messages.NO_SETTINGS.error()
    values = {field.name: field.read(form) for field in FIELDS}
    check_together(values)
    precision, whole_frame = read_speed(form, values['Speed'])
    return Settings(
        training_tags=values['Training Tag'],
        negative_tags=values['Negative Tag'],
        batches={name: values[name] for name in BATCH_AXES},
        checkpoint=values['Model'],
        threshold=values['Similarity Threshold'],
        occupancy=values['Target Occupancy'],
        points_per_side=values['Points per side'],
        min_area=values['Min Mask Area'],
        max_area=values['Max Mask Area'],
        smoothing=values['Smoothing'],
        existing=read_existing(form, values['Existing Outlines']),
        tile_size=values['Tile Size'],
        jobs=values['Jobs'],
        precision=precision,
        whole_frame=whole_frame,
        tags=read_tags(params, 'tags'),
        channel=read_index(params, 'channel', 'The channel'),
        location=read_location(params),
        connect_to=read_connection(params),
        share_examples=read_share_examples(params),
    )


def check_together(values: Mapping[str, Any]) -> None:
    """Check the values that depend on each other. Raise a JobError if they contradict."""
    both = set(values['Training Tag']) & set(values['Negative Tag'])
    if both:
        raise messages.SAME_TAG.error(tags=', '.join(sorted(both)))
    smallest, largest = values['Min Mask Area'], values['Max Mask Area']
    if largest and smallest > largest:
        raise messages.AREAS_SWAPPED.error(smallest=smallest, largest=largest)


def read_existing(form: Mapping, existing: str) -> str:
    """Return how outlines that are on the server are treated.

    Parameters
    ----------
    form : Mapping
        A tool of an earlier version has the field Duplicates instead of Existing Outlines.
    existing : str
        The value of Existing Outlines, or its default.
    """
    if 'Existing Outlines' in form or OLD_DUPLICATES.name not in form:
        return existing
    return {'skip': SKIP, 'keep': KEEP}[OLD_DUPLICATES.read(form)]


def read_speed(form: Mapping, speed: str) -> tuple[str, bool]:
    """Return one of SPEEDS, or the same values from the fields of an earlier version.

    Parameters
    ----------
    form : Mapping
        A tool of an earlier version has two other fields instead of Speed.
    speed : str
        The value of Speed, or its default.
    """
    if 'Speed' in form or not {OLD_PRECISION.name, OLD_SOURCE.name} & set(form):
        return SPEEDS[speed]
    return OLD_PRECISION.read(form), OLD_SOURCE.read(form) == 'whole frame'


# Values


def show(value: Any) -> str:
    """Return a value as text for a message. Long and nested values are shortened."""
    if value is None or value in ('', [], {}):
        return 'empty'
    try:
        text = SHORT_REPR.repr(value)
    except ValueError:  # Python refuses to write numbers with thousands of digits
        return 'a number of very many digits'
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + '…'


def to_number(value: Any) -> float | None:
    """Convert a number or its text to a float. Return None if that gives no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_ranges(text: str) -> list[tuple[int, int]] | None:
    """Parse the text of a batch field.

    Returns
    -------
    list of (int, int) or None
        First and last number of each range, counted from 1. None means all positions, an empty
        list the current position.

    Raises
    ------
    ValueError
        The text is not a list of ranges. The error's text is the reason, as a phrase.

    Examples
    --------
    >>> parse_ranges('1-3, 5')
    [(1, 3), (5, 5)]
    """
    if text.strip().lower() == ALL:
        return None
    if not text.strip():
        return []
    ranges = []
    for part in text.split(','):
        match = re.fullmatch(r'\s*([0-9]{1,12})\s*(?:-\s*([0-9]{1,12})\s*)?', part)
        if not match:
            raise ValueError(f'{show(part.strip())} is not a number or a range')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f'the range {show(part.strip())} runs backwards')
        ranges.append((first, last))
    return ranges


def read_tags(source: Mapping, name: str) -> tuple[str, ...]:
    """Return a list of tags, empty if it is missing. Raise a JobError for any other value."""
    tags = source.get(name, [])
    is_list = isinstance(tags, list | tuple)
    if not is_list or not all(is_tag(tag) for tag in tags):
        raise messages.NOT_TAGS.error(field=name, seen=show(tags), longest=MAX_TAG_CHARACTERS)
    return tuple(tags)


def is_tag(value: Any) -> bool:
    """Return whether a value is a tag that a request can contain."""
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_TAG_CHARACTERS


def read_index(source: Mapping, key: str, name: str) -> int:
    """Return an index, 0 if it is missing.

    Parameters
    ----------
    source : Mapping
    key : str
    name : str
        Name of the index in the message.

    Raises
    ------
    JobError
        The value is not a whole number from 0.
    """
    value = source.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_INDEX:
        raise messages.NOT_AN_INDEX.error(name=name, seen=show(value))
    return value


def read_location(params: Mapping) -> Location:
    """Return the location that the user looks at."""
    tile = params.get('tile', {})
    if not isinstance(tile, Mapping):
        raise messages.NO_LOCATION.error()
    xy, z, time = (
        read_index(tile, axis, f'The current position in {axis}') for axis in BATCH_AXES.values()
    )
    return Location(xy, z, time)


def read_connection(params: Mapping) -> Mapping | None:
    """Return the annotations to connect with. None if the setting names no tags."""
    connection = params.get('connectTo') or {}
    if not isinstance(connection, Mapping):
        raise messages.CONNECTION_UNREADABLE.error(seen=show(connection))
    if not read_tags(connection, 'tags'):
        return None
    channel = None
    if connection.get('channel') is not None:
        channel = read_index(connection, 'channel', 'The channel of the connection')
    return {**connection, 'channel': channel}


def read_share_examples(params: Mapping) -> Mapping[str, str] | None:
    """Return the examples that the first job of the batch gave to this job.

    Returns
    -------
    Mapping or None
        {annotation id: digest}. None if this job is not one of a split batch.
    """
    examples = params.get(SHARE_EXAMPLES)
    if examples is None:
        return None
    is_record = isinstance(examples, Mapping)
    if not is_record or not all(
        isinstance(text, str) for pair in examples.items() for text in pair
    ):
        raise messages.SHARE_UNREADABLE.error(seen=show(examples))
    return examples
