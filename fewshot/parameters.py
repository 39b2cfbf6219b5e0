"""The form that the user fills in and the job that comes of it: one table of fields serves both.

Imports nothing heavy, for the server runs an interface request while the user waits.
"""
import math
import os
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewshot.geometry import Location
from fewshot.sam.checkpoints import KNOWN, MODELS, Checkpoint, checkpoint_path

SKIP, KEEP = 'skip', 'keep'
OBJECT_CROPS, WHOLE_FRAME = 'object crops', 'whole frame'
BATCH_HELP = 'For example 1-3, 5-8. Leave blank for the current position; write all for every one.'

FIELDS: dict[str, dict[str, Any]] = {
    'Training Tag': {
        'type': 'tags', 'required': True,
        'tooltip': 'The tag of your examples. Outline 5 to 20 typical objects, give them this tag, choose it here.'},
    'Batch XY': {
        'type': 'text', 'vueAttrs': {'placeholder': 'ex. 1-3, 5-8', 'label': 'XY positions to search'},
        'tooltip': f'The XY positions to search. {BATCH_HELP}'},
    'Batch Z': {
        'type': 'text', 'vueAttrs': {'placeholder': 'ex. 1-3, 5-8', 'label': 'Z slices to search'},
        'tooltip': f'The Z slices to search. {BATCH_HELP}'},
    'Batch Time': {
        'type': 'text', 'vueAttrs': {'placeholder': 'ex. 1-3, 5-8', 'label': 'Time points to search'},
        'tooltip': f'The time points to search. {BATCH_HELP}'},
    'Model': {
        'type': 'select', 'default': MODELS[0],
        'tooltip': 'The SAM checkpoint that proposes the outlines and compares them with your examples.'},
    'Similarity Threshold': {
        'type': 'number', 'min': 0, 'max': 1, 'step': 0.01, 'default': 0.5,
        'tooltip': 'How alike an object must be to your examples, from 0 (keep everything) to 1 (only copies). '
                   'Raise it when wrong objects appear, lower it when objects are missing.'},
    'Target Occupancy': {
        'type': 'number', 'min': 0.05, 'max': 0.80, 'step': 0.01, 'default': 0.20,
        'tooltip': 'The share of the picture around an object that the object itself fills when it is compared. '
                   'Lower shows more of its surroundings, higher looks at the object alone.'},
    'Points per side': {
        'type': 'number', 'min': 16, 'max': 128, 'step': 1, 'default': 128,
        'tooltip': 'SAM is asked at a grid of this many points by as many. More points find smaller objects; '
                   'twice as many take four times as long.'},
    'Min Mask Area': {
        'type': 'number', 'min': 0, 'max': 100_000, 'step': 1, 'unit': 'pixels', 'default': 30,
        'tooltip': 'Smaller objects are left out. About half the area of your smallest example is a good value.'},
    'Max Mask Area': {
        'type': 'number', 'min': 0, 'max': 100_000, 'step': 1, 'unit': 'pixels', 'default': 0,
        'tooltip': 'Larger objects are left out; 0 means no limit. About twice the area of your largest example is a '
                   'good value.'},
    'Smoothing': {
        'type': 'number', 'min': 0, 'max': 3, 'step': 0.1, 'default': 0.3,
        'tooltip': 'How far, in pixels, an outline may be moved to make it simpler. 0 keeps every step of the mask.'},
    'Negative Tag': {
        'type': 'tags',
        'tooltip': 'The tag of counter-examples: outlines of what you do not want. Tag a few wrong objects of the last '
                   'run, choose the tag here and run again: what is more like them than like your examples is left '
                   'out.'},
    'Duplicates': {
        'type': 'select', 'items': [SKIP, KEEP], 'default': SKIP,
        'tooltip': 'skip gives each object one outline: not two that overlap, and none where one with the same tag, or '
                   'an example, already is. keep uploads every outline that is found.'},
    'Advanced': {
        'type': 'notes', 'value': 'The defaults of the following are fine for most images.'},
    'Save Scores': {
        'type': 'checkbox', 'default': True,
        'tooltip': 'Stores how similar each object is to your examples as a property named SAM few-shot, by which the '
                   'object list can be sorted and filtered.'},
    'Tile Size': {
        'type': 'number', 'min': 0, 'max': 4096, 'step': 1, 'unit': 'pixels', 'default': 0,
        'tooltip': 'SAM shrinks every picture to 1024 pixels, and small objects in a large frame vanish. With a size '
                   'here the frame is searched in tiles of so many pixels, each with all points. 0 takes the whole '
                   'frame at once.'},
    'Jobs': {
        'type': 'number', 'min': 1, 'max': 64, 'step': 1, 'default': 1,
        'tooltip': 'Splits the batch into this many jobs, which run side by side where the server has several GPUs. '
                   'This page follows only the first job, and Cancel ends only that one.'},
    'Encoder Precision': {
        'type': 'select', 'items': ['float32', 'bfloat16'], 'default': 'float32',
        'tooltip': 'bfloat16 makes the image encoder several times faster on a recent GPU; similarities change in the '
                   'third decimal.'},
    'Feature Source': {
        'type': 'select', 'items': [OBJECT_CROPS, WHOLE_FRAME], 'default': OBJECT_CROPS,
        'tooltip': 'object crops looks at each object enlarged. whole frame takes what SAM saw of it in the whole '
                   'frame: comparing then costs nothing, but objects under about 32 pixels of the 1024 to which SAM '
                   'shrinks a frame are told apart poorly. Target Occupancy has no effect then.'},
}
BATCH_AXES = {'Batch XY': 'XY', 'Batch Z': 'Z', 'Batch Time': 'Time'}
ALL = 'all'
SIGNED_EXAMPLES = 'fewshotExamples'  # key of the parameters of a share of a batch: {annotation id: digest}
LARGEST_INDEX = 10 ** 12
LONGEST_TAG = 1_000  # characters; it must fit an address
SHOWN = reprlib.Repr()
SHOWN.maxstring = SHOWN.maxlong = SHOWN.maxother = 500  # characters
SHOWN.maxlist = SHOWN.maxdict = 12


@dataclass(frozen=True)
class Parameters:
    """What one job is to do, every value checked."""

    training_tags: tuple[str, ...]
    negative_tags: tuple[str, ...]  # of counter-examples
    batches: Mapping[str, str]  # field name → text as the user wrote it, for the three batch fields
    checkpoint: Checkpoint
    threshold: float  # cosine similarity, 0 to 1
    occupancy: float  # share of a crop's area that the object fills
    points_per_side: int
    min_area: int  # pixels
    max_area: int  # pixels, 0: no limit
    smoothing: float  # pixels
    skip_duplicates: bool
    save_scores: bool
    tile_size: int  # pixels, 0: the whole frame at once
    precision: str  # of the image encoder: float32 or bfloat16
    jobs: int  # to split the batch into
    signed: Mapping[str, str] | None  # the examples of the batch of which this job is a share, see `shares`
    whole_frame: bool  # objects are described by the features of their whole frame, not of a crop of their own
    tags: tuple[str, ...]  # what new annotations carry
    channel: int
    current: Location  # where the user stands
    connect_to: Mapping[str, Any] | None  # the job's own record, None unless it names tags


def explain(error: Exception, info: str) -> Exception:
    """The error with a note for the user: the value seen and what to do."""
    error.add_note(info)
    return error


def refuse(message: str, seen: Any, remedy: str) -> Exception:
    """A ValueError for a setting, with the value seen and what to do in its note."""
    return explain(ValueError(message), f'Seen: {show(seen)}. {remedy}')


def show(value: Any) -> str:
    """A value as text that fits a message, whatever it is: long ones and deep ones are cut in the middle."""
    try:
        return SHOWN.repr(value)
    except ValueError:  # Python writes no number of thousands of digits
        return 'a number of very many digits'


def build_interface() -> dict[str, dict[str, Any]]:
    """The form for the server: the fields in order, the models those that this machine can run."""
    present = [name for name, checkpoint in KNOWN.items() if os.path.exists(checkpoint_path(checkpoint))]
    interface = {name: {**field, 'displayOrder': order} for order, (name, field) in enumerate(FIELDS.items())}
    interface['Model']['items'] = MODELS + [name for name in present if name not in MODELS]
    return interface


def read_parameters(params: Any) -> Parameters:
    """Check everything about a job that can be known without the server.

    Parameters
    ----------
    params : the job's parameters as the server sends them, the form's values under `workerInterface`

    Raises
    ------
    ValueError
        A setting is missing, malformed or out of range.
    FileNotFoundError
        The checkpoint's file is not there.
    Both carry a note with the value seen and what to do.
    """
    if not isinstance(params, Mapping):
        raise refuse('The job has no parameters', params, 'Start the job from the tool again.')
    values = params.get('workerInterface')
    if not isinstance(values, Mapping):
        raise refuse('The job has no settings', values, 'Open the tool, save its settings and run it again.')
    training_tags, negative_tags = _read_training_tags(values), _read_tags(values, 'Negative Tag')
    if both := set(training_tags) & set(negative_tags):
        raise refuse('Negative Tag and Training Tag name the same tag', ', '.join(sorted(both)),
                     'Give examples and counter-examples tags of their own.')
    checkpoint = _read_checkpoint(values)
    min_area, max_area = _read_areas(values)
    return Parameters(
        training_tags=training_tags,
        negative_tags=negative_tags,
        batches={name: _read_batch_text(values, name) for name in BATCH_AXES},
        checkpoint=checkpoint,
        threshold=_read_number(values, 'Similarity Threshold'),
        occupancy=_read_number(values, 'Target Occupancy'),
        points_per_side=int(_read_number(values, 'Points per side')),
        min_area=min_area,
        max_area=max_area,
        smoothing=_read_number(values, 'Smoothing'),
        skip_duplicates=_read_choice(values, 'Duplicates') == SKIP,
        save_scores=_read_switch(values, 'Save Scores'),
        tile_size=int(_read_number(values, 'Tile Size')),
        precision=_read_choice(values, 'Encoder Precision'),
        jobs=int(_read_number(values, 'Jobs')),
        signed=_read_signatures(params),
        whole_frame=_read_choice(values, 'Feature Source') == WHOLE_FRAME,
        tags=_read_tags(params, 'tags'),
        channel=_read_index(params, 'channel'),
        current=_read_tile(params),
        connect_to=_read_connection(params))


def parse_batch(text: str) -> list[tuple[int, int]] | None:
    """Ranges (first, last) in the user's 1-based numbers, None for all; an empty list means the current position.

    Raises ValueError where the text is no such list.

    >>> parse_batch('1-3, 5')
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
            raise ValueError(f'{show(part.strip())} is neither a number nor a range')
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise ValueError(f'{show(part.strip())} runs backwards')
        ranges.append((first, last))
    return ranges


def _read_training_tags(values: Mapping) -> tuple[str, ...]:
    tags = _read_tags(values, 'Training Tag')
    if not tags:
        raise refuse('Training Tag is missing', values.get('Training Tag'),
                     'Outline 5 to 20 objects, give them a tag, and choose that tag as Training Tag.')
    return tags


def _read_tags(source: Mapping, name: str) -> tuple[str, ...]:
    tags = source.get(name, [])
    if not isinstance(tags, list | tuple) or not all(
            isinstance(tag, str) and tag.strip() and len(tag) <= LONGEST_TAG for tag in tags):
        raise refuse(f'{name} is not a list of tags', tags,
                     f'Choose one or more tags of at most {LONGEST_TAG:,} characters.')
    return tuple(tags)


def _read_areas(values: Mapping) -> tuple[int, int]:
    min_area, max_area = int(_read_number(values, 'Min Mask Area')), int(_read_number(values, 'Max Mask Area'))
    if max_area and min_area > max_area:
        raise refuse('Min Mask Area is above Max Mask Area', f'{min_area} and {max_area} pixels',
                     'Lower Min Mask Area, or set Max Mask Area to 0 for no limit.')
    return min_area, max_area


def _read_checkpoint(values: Mapping) -> Checkpoint:
    name = values.get('Model')
    if not isinstance(name, str) or name not in KNOWN:
        raise refuse('Model is not one that this worker knows', name, f'Choose one of: {", ".join(KNOWN)}.')
    path = checkpoint_path(KNOWN[name])
    if not os.path.exists(path):
        raise explain(
            FileNotFoundError(f'The checkpoint file of the model {name} is missing'),
            f'Looked for: {path}. Choose another model, or ask who runs the worker to put the file there or to set '
            'SAM_CHECKPOINT_DIR to its folder.')
    return KNOWN[name]


def _read_number(values: Mapping, name: str) -> float:
    """The number of a field, from a number or its text; the field's default where the saved tool lacks the field."""
    field = FIELDS[name]
    value = values.get(name, field['default'])
    low, high = field['min'], field['max']
    remedy = f'Enter a number from {low:g} to {high:,}.'
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise refuse(f'{name} is not a number', value, remedy)
    if not low <= number <= high:
        raise refuse(f'{name} is out of range', value, remedy)
    if field['step'] == 1 and number != int(number):
        raise refuse(f'{name} must be a whole number', value, f'Enter a whole number from {low:g} to {high:,}.')
    return number


def _read_choice(values: Mapping, name: str) -> str:
    """The chosen item of a select field; the default where the saved tool lacks the field."""
    choice = values.get(name, FIELDS[name]['default'])
    if choice not in FIELDS[name]['items']:
        raise refuse(f'{name} is not one of its choices', choice, f'Choose one of: {", ".join(FIELDS[name]["items"])}.')
    return choice


def _read_switch(values: Mapping, name: str) -> bool:
    """Whether a checkbox is set; the default where the saved tool lacks the field."""
    switch = values.get(name, FIELDS[name]['default'])
    if not isinstance(switch, bool):
        raise refuse(f'{name} is neither on nor off', switch, 'Set or clear the box and save the tool again.')
    return switch


def _read_batch_text(values: Mapping, name: str) -> str:
    text = values.get(name, '')
    remedy = BATCH_HELP
    if isinstance(text, int) and not isinstance(text, bool):
        text = show(text)
    if not isinstance(text, str):
        raise refuse(f'{name} is not a list of positions', text, remedy)
    try:
        parse_batch(text)
    except ValueError as error:
        raise refuse(f'{name} is not a list of positions: {error}', text, remedy) from None
    return text


def _read_index(source: Mapping, name: str, where: str = '') -> int:
    value = source.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < LARGEST_INDEX:
        raise refuse(f'{where}{name} is not an index', value, 'Expected a whole number from 0; start the job again.')
    return value


def _read_tile(params: Mapping) -> Location:
    tile = params.get('tile', {})
    if not isinstance(tile, Mapping):
        raise refuse('The current position is missing', tile, 'Open the dataset and start the job again.')
    return Location(*(_read_index(tile, axis, 'The current position in ') for axis in BATCH_AXES.values()))


def _read_signatures(params: Mapping) -> Mapping[str, str] | None:
    signed = params.get(SIGNED_EXAMPLES)
    if signed is None:
        return None
    if not isinstance(signed, Mapping) or not all(isinstance(part, str) for one in signed.items() for part in one):
        raise refuse('The examples of the batch are not a record', signed, 'Start the whole batch again.')
    return signed


def _read_connection(params: Mapping) -> Mapping | None:
    connection = params.get('connectTo') or {}
    if not isinstance(connection, Mapping):
        raise refuse('The connection setting is not a record', connection, 'Save the tool again.')
    if not _read_tags(connection, 'tags'):
        return None
    any_channel = connection.get('channel') is None
    return {**connection, 'channel': None if any_channel else _read_index(connection, 'channel', 'The connection to ')}
