"""Every message that a user can see: text, hint, and the cause for the documentation.

The page shows at most 120 characters of a text and 160 of a hint. A test fills each message with
usual values and compares.

`docs/messages.md` is generated from this catalogue by `make docs-tables`. Names in braces are
filled in.
"""

from dataclasses import dataclass
from typing import Any

from fewshot.errors import JobError

ERROR, WARNING = 'error', 'warning'


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes
    ----------
    text : str
        What happened, with the value seen. One or two sentences.
    hint : str
        What to do.
    cause : str
        Why the message appears, for the documentation.
    kind : {'error', 'warning'}
        An error ends the job. A warning does not.
    """

    text: str
    hint: str
    cause: str
    kind: str = ERROR

    def fill(self, **values: Any) -> tuple[str, str]:
        """Return text and hint with the values filled in."""
        return self.text.format(**values), self.hint.format(**values)

    def error(self, **values: Any) -> JobError:
        """Return the error to raise, with the values filled in."""
        return JobError(*self.fill(**values))


def warning(text: str, hint: str, cause: str) -> Message:
    """Return a message that does not end the job."""
    return Message(text, hint, cause, WARNING)


# How the job was started

PARAMETERS_NOT_JSON = Message(
    'The parameters of the job are not JSON: {problem}.',
    'Start the job from the tool again. By hand, check the quoting.',
    'The argument `--parameters` cannot be read.',
)
NO_PARAMETERS = Message(
    'The job has no parameters.',
    'Start the job from the tool again.',
    'The parameters are not a JSON object.',
)
NO_SETTINGS = Message(
    'The job has no settings.',
    'Open the tool, save its settings and run it again.',
    'The parameters have no object `workerInterface`.',
)
NO_LOCATION = Message(
    'The job has no current location.',
    'Open the dataset and start the job again.',
    'The parameter `tile` is not an object.',
)
NOT_AN_INDEX = Message(
    '{name} is not an index: {seen}.',
    'Start the job from the tool again. An index is a whole number from 0.',
    'A channel or a position is not a whole number from 0.',
)
CONNECTION_UNREADABLE = Message(
    'The connection setting of the tool cannot be read: {seen}.',
    'Save the tool again.',
    'The parameter `connectTo` is not an object.',
)
SHARE_UNREADABLE = Message(
    'The examples of the batch cannot be read: {seen}.',
    'Start the whole batch again.',
    'The job of a share was started with other parameters than the first job gave it.',
)

# Fields

NO_TRAINING_TAG = Message(
    'The field Training Tag is empty.',
    'Outline 5-20 objects, give them a tag, and choose that tag as Training Tag.',
    'No tag was chosen.',
)
NOT_TAGS = Message(
    '{field} is not a list of tags: {seen}.',
    'Choose one or more tags of at most {longest:,} characters.',
    'Something else is stored in a field for tags, or a tag is too long.',
)
SAME_TAG = Message(
    'Training Tag and Negative Tag are the same: {tags}.',
    'Give examples and counter-examples different tags.',
    'A polygon cannot be an example and a counter-example.',
)
UNKNOWN_MODEL = Message(
    'The worker does not know this model: {seen}.',
    'Choose one of: {known}.',
    'The tool names a model of another version, or no model.',
)
CHECKPOINT_MISSING = Message(
    'The file of the model {model} is missing: {path}.',
    'Choose another model, or ask the person who runs the worker to put the file there. '
    'SAM_CHECKPOINT_DIR names the folder.',
    'The image has no file for this model.',
)
NOT_A_NUMBER = Message(
    '{field} is not a number: {seen}.',
    'Enter a number from {low:g} to {high:,}.',
    'There is text in a number field.',
)
OUT_OF_RANGE = Message(
    '{field} is out of range: {seen}.',
    'Enter a number from {low:g} to {high:,}.',
    'The number is too small or too large.',
)
NOT_WHOLE = Message(
    '{field} is not a whole number: {seen}.',
    'Enter a whole number from {low:g} to {high:,}.',
    'The number has a fraction.',
)
NOT_A_CHOICE = Message(
    '{field} does not have this choice: {seen}.',
    'Choose one of: {choices}.',
    'The tool was saved with another version of the worker.',
)
AREAS_SWAPPED = Message(
    'Min Mask Area ({smallest} pixels) is above Max Mask Area ({largest} pixels).',
    'Lower Min Mask Area, or set Max Mask Area to 0 for no limit.',
    'No object can be inside these limits.',
)
NOT_LOCATIONS = Message(
    '{field} cannot be read: {problem}.',
    'Write for example 1-3, 5-8, or all. A blank field means the position that you look at.',
    'A batch field holds something else than numbers and ranges.',
)
LOCATIONS_OUTSIDE = Message(
    '{field} names positions that the dataset does not have: {outside}.',
    'Its last position is {length:,}. A blank field means the position that you look at.',
    'Positions count from 1.',
)
BATCH_TOO_LARGE = Message(
    'The batch has {count:,} frames.',
    'Search at most {most:,} frames in one job.',
    'The batch fields name too many locations.',
)
CHANNEL_OUTSIDE = Message(
    'The tool belongs to channel {channel}, which the dataset does not have.',
    'Choose another layer for the tool. The last channel is {channels}.',
    'The tool was made for another dataset.',
)
TILES_TOO_SMALL = Message(
    'Tile Size {size} is too small: the largest example is {side} pixels wide.',
    'Enter {smallest} or more, or 0 for the whole frame.',
    'A tile must be four times as wide as the largest example.',
)
TOO_MANY_TILES = Message(
    'Tile Size {size} splits each frame into {count:,} tiles.',
    'Enter a larger Tile Size. Each tile takes as long as a frame.',
    'The tiles are too small for the frame.',
)

# Model

CHECKPOINT_SIZE = Message(
    'The file of {model} has {size:,} bytes instead of {expected:,}.',
    'Ask the person who runs the worker to download {path} again.',
    'The download was incomplete, or the file is another one.',
)
CHECKPOINT_DAMAGED = Message(
    'The file of {model} is damaged, or another file: {path}.',
    'Ask the person who runs the worker to download it again. Its SHA-256 begins with '
    '{seen:.12} instead of {expected:.12}.',
    'The bytes of the file are not those of the checkpoint.',
)
CHECKPOINT_WRONG = Message(
    'The file does not hold the weights of {model}: {path}.',
    'Ask the person who runs the worker to download it again. Its SHA-256 begins with '
    '{expected:.12}.',
    'The file is a checkpoint of another model.',
)
NO_GPU = warning(
    'No GPU was found. {model} needs minutes per object without one.',
    'Ask the person who runs the server for a GPU. Cancel ends this job.',
    'The container sees no GPU.',
)
GPU_MEMORY = Message(
    'The GPU has too little memory for SAM.',
    'Ask the person who runs the server to end other programs on the GPU, or to use a larger one.',
    'Another program fills the GPU, or the GPU is too small.',
)

# Dataset

READ_ONLY = Message(
    'You can read this dataset but not add annotations to it.',
    'Ask its owner for the right to edit, then start the job again.',
    'The user of the job has the access level "read".',
)
BAD_AXES = Message(
    'The dataset does not say how many positions of {axis} it has: {seen}.',
    'Upload the image again, or ask the person who runs the server. At most {most:,} are possible.',
    'The metadata of the image are damaged.',
)
NO_VIEW = warning(
    'The dataset has no view that you can open, so its layers are not known.',
    'Each channel is shown in a colour of its own, from percentile 0.1 to 99.9. Open the dataset '
    'and set its layers if the result is poor.',
    'The dataset was never opened in a view, or its views are not shared with the user.',
)
NO_VISIBLE_LAYER = warning(
    'No layer of the dataset is visible.',
    'Each channel is shown in a colour of its own, from percentile 0.1 to 99.9. Open the dataset '
    'and set its layers if the result is poor.',
    'All layers are hidden.',
)
VIEW_UNREADABLE = Message(
    'The view of the dataset cannot be read: {seen}.',
    'Open the dataset, look at its layers, save them and start the job again.',
    'The server gave a view or a configuration in another form.',
)
LAYER_UNREADABLE = Message(
    'The layer {layer} cannot be shown: {problem}.',
    'Set its colour and contrast again in the layer panel, or hide it.',
    'The colour, the contrast or the channel of a visible layer is damaged.',
)
NO_FRAME = Message(
    'The dataset has no image at {location}, channel {channel}.',
    'Leave this location out of the batch, or hide the channel.',
    'The image lacks a frame inside its range of locations.',
)
CHANNELS_DIFFER = Message(
    'The channels at {location} differ in size: {first} and {second}.',
    'Upload the channels of this location again, or hide one of them.',
    'The files of a location do not have the same size.',
)
ANNOTATIONS_UNREADABLE = Message(
    'The annotations of the dataset did not come as a list: {seen}.',
    'Ask the person who runs the server whether a proxy is in front of it.',
    'Something else than the server answered.',
)
ANNOTATIONS_UNSORTED = Message(
    'The annotations did not come in the order of their ids: {following} after {last}.',
    'Ask the person who runs the server whether a cache is in front of it.',
    'Pages of annotations repeat.',
)

# Examples

NO_EXAMPLE = Message(
    'No polygon has the tag {tags}.',
    'Tag 5-20 polygons and run again. Points, lines and rectangles do not count.',
    'The dataset has no polygon with exactly this tag.',
)
NO_USABLE_EXAMPLE = Message(
    'No example can be used.',
    'Outline the examples again, inside the image. Reasons: {reasons}.',
    'All examples lie outside the image, cover no pixel or are on frames that do not exist.',
)
TAGS_OVERLAP = warning(
    'The Training Tag {tags} is also the output tag of the tool.',
    '{used} of its {count} polygons are used as examples. Outlines with a score are results and '
    'are ignored. Choose another output tag.',
    'The tool gives its results the tag of the examples. Results are polygons that an earlier run '
    'made and that have exactly the output tags.',
)
ONLY_RESULTS = Message(
    'All {count} polygons with the tag {tags} are results of earlier runs.',
    'Outline 5-20 objects by hand and tag them, or choose another output tag for the tool.',
    'Results are not used as examples if they have exactly the output tags of the tool.',
)
EXAMPLES_SKIPPED = warning(
    '{skipped} of {count} examples were ignored.',
    'Outline them again if you need them. Reasons: {reasons}.',
    'Some examples lie outside the image, cover no pixel or are on frames that do not exist.',
)
BOTH_TAGS = Message(
    'Polygons with both the Training Tag and the Negative Tag: {count}.',
    'Remove one of the tags. Look at {places}.',
    'A polygon cannot be an example and a counter-example.',
)
EXAMPLES_CHANGED = Message(
    'The examples have changed since the batch was started (deleted: {gone}, edited: {changed}).',
    'Start the whole batch again. Its other jobs learned from the examples as they were.',
    'Somebody edited or deleted examples before a job of the batch started.',
)
EXAMPLES_SMALL_FOR_SOURCE = warning(
    '{small} of {count} examples are too small for the Speed fastest.',
    'Set Speed to fast if wrong objects are found.',
    'The features of small objects are mostly those of their surroundings.',
)
OBJECTS_SMALL = warning(
    'The examples are about {width:.0f} pixels wide. SAM shrinks this frame and can miss objects '
    'of this size.',
    'Set Tile Size to {size} to search the frame in tiles.',
    'SAM shrinks a frame to the size of its input.',
)
GRID_COARSE = warning(
    'Points per side {points} is coarse: the smallest example has about {seen:.1f} points.',
    'Set it to {proposed}, or objects of this size may be missed. Proposing outlines then takes '
    '{times:.1f} times as long.',
    'SAM outlines objects at the points of a grid, and the grid misses small objects.',
)
EXAMPLES_OUTSIDE_LIMITS = warning(
    '{outside} of {count} examples are outside Min and Max Mask Area, so objects like them are '
    'ignored.',
    'The examples have {smallest} to {largest} pixels. Set Min Mask Area to {smallest} or less and '
    'Max Mask Area to {largest} or more.',
    'The area limits exclude objects like the examples.',
)

# Result

NOTHING_FOUND = warning(
    'No object was found in {frames}.',
    '{explanation}',
    'The area limits, the threshold or the counter-examples removed every candidate.',
)
THRESHOLD_LOW = warning(
    'Similarity Threshold {threshold:g} let every candidate pass.',
    'Try {proposed:.2f}. The examples are {lowest:.2f} to {highest:.2f} similar to each other. '
    'You can also filter the objects by their scores.',
    'The threshold is far below the similarity of the examples.',
)
MOSTLY_KNOWN = warning(
    '{known} of {found} objects were not added, because they have an outline already.',
    "To replace what an earlier run made, set Existing Outlines to 'replace earlier results'.",
    'More than half of the objects found have an outline already, and not only the examples.',
)
AREAS_DIFFER = warning(
    '{removed} of {count} outlines are much smaller or larger than the examples ({smallest} to '
    '{largest} pixels).',
    'Set Min Mask Area to {low}, Max Mask Area to {high} and Existing Outlines to "replace earlier '
    'results", and run again.',
    'The area limits accept parts of objects, or clumps.',
)
GRID_FINE = warning(
    'Points per side {points} is more than objects like the examples need.',
    'With {proposed}, the smallest example still has about {least} points, and the search takes '
    'about {saved} less (of {whole}).',
    'The points are close together compared with the examples.',
)
NO_TAGS = warning(
    'The tool gives the objects no tag, and their scores cannot be saved.',
    'Choose an output tag for the tool. Else another run does not recognize the objects and adds '
    'them again.',
    'The tool has no output tag, and the property for the scores cannot be created or read.',
)
SCORES_NOT_SAVED = warning(
    'The outlines are saved, but their scores cannot be saved.',
    '{reason}',
    'The property for the scores cannot be created or read, or the server failed.',
)
NOTHING_REPLACED = warning(
    'Earlier results are not replaced, because no scores can be saved. Objects with an outline are '
    'not added.',
    '{reason}',
    "Existing Outlines is 'replace earlier results', which recognizes results by their scores, but "
    'the property for the scores cannot be created or read.',
)
RESULTS_NOT_REMOVED = warning(
    'The new outlines of {location} are saved. Run again to remove the earlier results.',
    '{reason}',
    'The server refused to remove them or did not answer, or not every new outline was saved with '
    'its scores.',
)
SCORES_LOST = warning(
    'The outlines of {location} are saved, but not their scores.',
    '{reason}',
    'The server refused the scores of a frame.',
)
CONNECTIONS_LOST = warning(
    'The objects of {location} are saved, but not connected.',
    '{reason}',
    'The server refused the connections of a frame.',
)
OBJECT_REFUSED = warning(
    'The server refused an object of {location}. The others are saved.',
    '{reason}',
    'The server does not accept the outline.',
)

# The course of the job

FRAME_FAILED = warning(
    '{location} failed. The batch goes on.',
    '{reason}',
    'The frame could not be loaded, searched or uploaded.',
)
FRAMES_FAILED = Message(
    '{failed} of {frames} failed.',
    'Press Log for the reasons.',
    'The batch is complete except for these frames.',
)
TIME_LIMIT = warning(
    'The batch will take about {whole}, but the server ends a job after 24 h.',
    'Set Jobs to {jobs}: each takes about {each} if there are as many GPUs. Saved objects stay, '
    'and the batch can be started again.',
    'At the pace of the frames so far, the server will end the job.',
)
OTHER_NUMBER_OF_JOBS = warning(
    'The batch is split into {shares} jobs instead of {jobs}.',
    'You need not do anything. A job searches all combinations of its XY, Z and Time.',
    'The batch cannot be written as so many even shares.',
)
SPLIT = warning(
    'The batch is split into {jobs} jobs. This page shows only the first, and Cancel ends only '
    'that one.',
    'Look for "{first}" and the others in the list of jobs.',
    'The page follows only the job that it started.',
)
TOO_MANY_EXAMPLES_TO_SPLIT = warning(
    'The batch was not split, because {count:,} examples are too many. This job searches all '
    'frames.',
    'Use at most about 2,000 examples, or leave Jobs at 1.',
    'The other jobs cannot be told of so many examples.',
)
JOBS_NOT_STARTED = warning(
    '{refused} of {jobs} jobs could not be started. This job searches their frames, which takes '
    'longer.',
    '{reason}',
    'The server refused to start them.',
)
CANCELLED = Message(
    'The job was cancelled.',
    'Saved objects stay on the server.',
    'Somebody pressed Cancel, or the host is shutting down. Only the log of the container has this '
    'line.',
)

# Warnings that the page shows while the job runs, because the user may want to cancel it.
AT_ONCE = (NO_GPU, SPLIT, TIME_LIMIT)
# All warnings but lost frames. The page shows the first of those that a job has: settings to
# change, then losses, then explanations.
PRIORITY = (
    NOTHING_FOUND,
    TAGS_OVERLAP,
    MOSTLY_KNOWN,
    NOTHING_REPLACED,
    RESULTS_NOT_REMOVED,
    THRESHOLD_LOW,
    EXAMPLES_OUTSIDE_LIMITS,
    AREAS_DIFFER,
    OBJECTS_SMALL,
    GRID_COARSE,
    EXAMPLES_SMALL_FOR_SOURCE,
    OBJECT_REFUSED,
    SCORES_LOST,
    CONNECTIONS_LOST,
    EXAMPLES_SKIPPED,
    NO_TAGS,
    SCORES_NOT_SAVED,
    TIME_LIMIT,
    NO_GPU,
    SPLIT,
    GRID_FINE,
    JOBS_NOT_STARTED,
    TOO_MANY_EXAMPLES_TO_SPLIT,
    NO_VISIBLE_LAYER,
    NO_VIEW,
    OTHER_NUMBER_OF_JOBS,
)


def list_messages() -> list[Message]:
    """Return the messages in the order of this file."""
    return [value for value in globals().values() if isinstance(value, Message)]
