"""Every message that a user can see: text, hint, and the cause for the documentation.

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
    'The job has no parameters. Seen: {seen}.',
    'Start the job from the tool again.',
    'The parameters are not a JSON object.',
)
NO_SETTINGS = Message(
    'The job has no settings. Seen: {seen}.',
    'Open the tool, save its settings and run it again.',
    'The parameters have no object `workerInterface`.',
)
NO_LOCATION = Message(
    'The job has no current location. Seen: {seen}.',
    'Open the dataset and start the job again.',
    'The parameter `tile` is not an object.',
)
NOT_AN_INDEX = Message(
    '{name} is not an index. Seen: {seen}.',
    'Start the job from the tool again. An index is a whole number from 0.',
    'A channel or a position is not a whole number from 0.',
)
CONNECTION_UNREADABLE = Message(
    'The connection setting of the tool cannot be read. Seen: {seen}.',
    'Save the tool again.',
    'The parameter `connectTo` is not an object.',
)
SHARE_UNREADABLE = Message(
    'The examples of the batch cannot be read. Seen: {seen}.',
    'Start the whole batch again.',
    'The job of a share was started with other parameters than the first job gave it.',
)

# Fields

NO_TRAINING_TAG = Message(
    'The field Training Tag is empty. Seen: {seen}.',
    'Outline 5-20 objects, give them a tag, and choose that tag as Training Tag.',
    'No tag was chosen.',
)
NOT_TAGS = Message(
    'The field {field} is not a list of tags. Seen: {seen}.',
    'Choose one or more tags of at most {longest} characters.',
    'Something else is stored in a field for tags, or a tag is too long.',
)
SAME_TAG = Message(
    'Training Tag and Negative Tag name the same tag: {tags}.',
    'Give examples and counter-examples different tags.',
    'A polygon cannot be an example and a counter-example.',
)
UNKNOWN_MODEL = Message(
    'The worker does not know the model {seen}.',
    'Choose one of: {known}.',
    'The tool names a model of another version, or no model.',
)
CHECKPOINT_MISSING = Message(
    'The checkpoint file of the model {model} is missing. Looked for: {path}.',
    'Choose another model, or ask the person who runs the worker to put the file there. '
    'SAM_CHECKPOINT_DIR names the folder.',
    'The image has no file for this model.',
)
NOT_A_NUMBER = Message(
    'The field {field} is not a number. Seen: {seen}.',
    'Enter a number from {low:g} to {high:,}.',
    'There is text in a number field.',
)
OUT_OF_RANGE = Message(
    'The field {field} is out of range. Seen: {seen}.',
    'Enter a number from {low:g} to {high:,}.',
    'The number is too small or too large.',
)
NOT_WHOLE = Message(
    'The field {field} needs a whole number. Seen: {seen}.',
    'Enter a whole number from {low:g} to {high:,}.',
    'The number has a fraction.',
)
NOT_A_CHOICE = Message(
    'The field {field} does not have this choice. Seen: {seen}.',
    'Choose one of: {choices}.',
    'The tool was saved with another version of the worker.',
)
NOT_A_SWITCH = Message(
    'The field {field} is neither on nor off. Seen: {seen}.',
    'Set or clear the box and save the tool again.',
    'Something else is stored in a checkbox.',
)
AREAS_SWAPPED = Message(
    'Min Mask Area ({smallest} pixels) is above Max Mask Area ({largest} pixels).',
    'Lower Min Mask Area, or set Max Mask Area to 0 for no limit.',
    'No object can be inside these limits.',
)
NOT_LOCATIONS = Message(
    'The field {field} cannot be read: {problem}. Seen: {seen}.',
    'Write for example 1-3, 5-8. Leave the field blank for the current location, or write all.',
    'A batch field holds something else than numbers and ranges.',
)
LOCATIONS_OUTSIDE = Message(
    '{field} names locations that the dataset does not have: {outside}.',
    'The dataset has 1-{length}. A blank field means the current location.',
    'Numbers in batch fields start at 1.',
)
BATCH_TOO_LARGE = Message(
    'The batch has {count:,} frames.',
    'Search at most {most:,} frames in one job.',
    'The batch fields name too many locations.',
)
CHANNEL_OUTSIDE = Message(
    'The dataset has no channel {channel}.',
    'Choose another layer for the tool. The dataset has this number of channels: {channels}.',
    'The tool is assigned to a channel of another dataset.',
)
TILES_TOO_SMALL = Message(
    'Tile Size {size} is too small for the examples: the largest is {side} pixels wide.',
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
    'The checkpoint file of {model} has {size:,} bytes instead of {expected:,}. Read: {path}.',
    'Download the file again.',
    'The download was incomplete, or the file is another one.',
)
CHECKPOINT_DAMAGED = Message(
    'The checkpoint file of {model} is damaged, or another file. Read: {path}, {algorithm} {seen}, '
    'expected {expected}.',
    'Download the file again.',
    'The bytes of the file are not those of the checkpoint.',
)
CHECKPOINT_WRONG = Message(
    'The checkpoint file does not hold the weights of {model}. Read: {path}.',
    'Download the file again and compare its checksum with {expected}.',
    'The file is a checkpoint of another model.',
)
DOWNLOAD_REFUSED = Message(
    'The server answered {status} {reason} to the request for {url}.',
    'Check the address, or copy the file into the folder by hand.',
    'The file has another address now, or a proxy refuses it.',
)
DOWNLOAD_LOST = Message(
    'The download of {url} ended early: {reason}',
    'Start it again. It goes on after the {done:,} bytes that have arrived.',
    'The connection failed several times and no byte arrived in between.',
)
DOWNLOAD_NOT_WRITTEN = Message(
    'The file {path} cannot be written: {reason}.',
    'Make space on the disk, or make the folder writable. Then start the download again.',
    'The disk is full, or the folder belongs to another user.',
)
NO_GPU = warning(
    'No GPU was found.',
    'The model {model} needs minutes per object on a CPU. Ask the person who runs the server for a '
    'GPU.',
    'The container sees no GPU.',
)
GPU_MEMORY = Message(
    'The GPU has too little memory for SAM.',
    'End other programs on the GPU, or use a larger one.',
    'Another program fills the GPU, or the GPU is too small.',
)

# Dataset

READ_ONLY = Message(
    'You can read this dataset but not add annotations to it.',
    'Ask its owner for the right to edit, then start the job again.',
    'The user of the job has the access level "read".',
)
BAD_AXES = Message(
    'The dataset does not say how many positions of {axis} it has. Seen: {seen}.',
    'Ask the person who runs the server. Expected is a number from 1 to {most:,}.',
    'The metadata of the image are damaged.',
)
NO_VIEW = warning(
    'The dataset has no view that you can open.',
    'Every channel is shown in its own colour, from percentile 0.1 to 99.9. Open the dataset and '
    'set its layers if the result is poor.',
    'The dataset was never opened in a view, or its views are not shared with the user.',
)
NO_VISIBLE_LAYER = warning(
    'No layer of the dataset is visible.',
    'Every channel is shown in its own colour, from percentile 0.1 to 99.9. Open the dataset and '
    'set its layers if the result is poor.',
    'All layers are hidden.',
)
VIEW_UNREADABLE = Message(
    'The view of the dataset cannot be read. Seen: {seen}.',
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
    'The annotations of the dataset did not come as a list. Seen: {seen}.',
    'Ask the person who runs the server whether a proxy is in front of it.',
    'Something else than the server answered.',
)
ANNOTATIONS_UNSORTED = Message(
    'The annotations of the dataset did not come in the order of their ids: {following} after '
    '{last}.',
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
    'None of the examples can be used: {reasons}.',
    'Outline the examples again, inside the image.',
    'All examples lie outside the image, cover no pixel or are on frames that do not exist.',
)
EXAMPLES_SKIPPED = warning(
    '{skipped} of {count} examples were ignored: {reasons}.',
    'The other examples are used. Outline the ignored ones again if you need them.',
    'Some examples lie outside the image, cover no pixel or are on frames that do not exist.',
)
BOTH_TAGS = Message(
    'A polygon has both the Training Tag and the Negative Tag. Seen: {count}, at {places}.',
    'Remove one of the tags from it.',
    'A polygon cannot be an example and a counter-example.',
)
EXAMPLES_CHANGED = Message(
    'The examples have changed since the batch was started: {gone} of {count} are gone, {changed} '
    'changed.',
    'Start the whole batch again. Its other jobs learned from the examples as they were.',
    'Somebody edited or deleted examples before a job of the batch started.',
)
EXAMPLES_SMALL_FOR_SOURCE = warning(
    '{small} of {count} examples are small for the Feature Source whole frame.',
    'The model sees the frame at {input_size} pixels and these examples at less than {least}. '
    'Choose object crops if wrong objects are kept.',
    'The features of small objects are mostly those of their surroundings.',
)
OBJECTS_SMALL = warning(
    'The objects are small in this frame: the median example is {width:.0f} pixels wide, and SAM '
    'sees {seen:.0f} of them.',
    'Set Tile Size to {size} to search the frame in tiles. SAM needs about {least} pixels.',
    'SAM shrinks a frame to the size of its input.',
)
EXAMPLES_OUTSIDE_LIMITS = warning(
    '{outside} of {count} examples are outside Min and Max Mask Area.',
    'Objects like them will be ignored. The examples have {smallest} to {largest} pixels: set Min '
    'Mask Area to {smallest} or less and Max Mask Area to {largest} or more.',
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
    'Filtering the object list by the scores needs no second run.',
    'The threshold is far below the similarity of the examples.',
)
NO_TAGS = warning(
    'The tool gives no tag to the objects, and their scores are not saved.',
    'Another run cannot tell which objects exist and adds them again. Choose an output tag for the '
    'tool.',
    'The tool has no output tag, and Save Scores is off or not possible.',
)
SCORES_NOT_SAVED = warning(
    'The scores of the objects will not be saved. {reason}',
    'The outlines are uploaded.',
    'The property for the scores cannot be created or read, or the server failed.',
)
SCORES_LOST = warning(
    'The scores of {location} were not saved. {reason}',
    'The outlines are uploaded.',
    'The server refused the values of a frame.',
)
CONNECTIONS_LOST = warning(
    'The objects of {location} were not connected. {reason}',
    'The outlines are uploaded.',
    'The server refused the connections of a frame.',
)
OBJECT_REFUSED = warning(
    'The server refused an object at {location}. {reason}',
    'The other objects are uploaded.',
    'The server does not accept the outline.',
)

# The course of the job

FRAME_FAILED = warning(
    'The frame {location} failed: {reason}',
    'The batch goes on. Its end lists the frames that failed.',
    'The frame could not be loaded, searched or uploaded.',
)
FRAMES_FAILED = Message(
    '{failed} of {frames} failed.',
    'Their warnings and the log of the job give the reasons.',
    'The batch is complete except for these frames.',
)
MORE_WARNINGS = warning(
    '{count} more warnings are in the log of the job.',
    'Read them there.',
    'A job shows at most 20 warnings.',
)
TIME_LIMIT = warning(
    'The batch will take about {whole}. The server ends a job after 24 hours.',
    'Set Jobs to {jobs}: each job would take about {each} if there are as many GPUs. Uploaded '
    'objects stay, and the batch can be started again.',
    'At the pace of the frames so far, the server will end the job.',
)
OTHER_NUMBER_OF_JOBS = warning(
    'The batch is split into {shares} jobs instead of {jobs}.',
    'You need not do anything. Each job searches all combinations of its XY, Z and Time.',
    'The batch cannot be written as so many even shares.',
)
SPLIT = warning(
    'The batch is split into {jobs} jobs, and this page shows only the first.',
    'Look for {names} in the list of jobs. Cancel ends only the first job.',
    'The page follows only the job that it started.',
)
TOO_MANY_EXAMPLES_TO_SPLIT = warning(
    'The batch was not split: {count} examples are too many.',
    'This job searches the whole batch, which takes longer. Use at most about 2,000 examples.',
    'The other jobs cannot be told of so many examples.',
)
JOBS_NOT_STARTED = warning(
    '{refused} of {jobs} jobs could not be started. {reason}',
    'This job searches their shares, which takes longer.',
    'The server refused to start them.',
)
CANCELLED = Message(
    'The job was cancelled.',
    'Uploaded objects stay on the server.',
    'Somebody pressed Cancel, or the host is shutting down. Only the log of the container has this '
    'line.',
)


def list_messages() -> list[Message]:
    """Return the messages in the order of this file."""
    return [value for value in globals().values() if isinstance(value, Message)]
