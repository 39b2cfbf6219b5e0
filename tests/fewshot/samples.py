"""Usual values of every message, the longest that are to be expected."""

LOCATION = 'XY 1024, Z 12, Time 100'
TEXT = "'a tag with a rather long name, of which the message shows …"  # as settings.show cuts it
PATH = '/models/sam_vit_h_4b8939.pth'
DIGEST = 'a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e'
ID = '64f0c0ffee1234567890abcd'
MODEL = 'sam_vit_h_4b8939'
REASONS = '12 outside the image, 3 too thin to cover a pixel, 2 fewer than 3 points'
REASON = (
    f'POST annotation_property_values/multiple for dataset {ID} failed with status 403: '
    f'Write access denied for folder {ID} (user {ID}).'
)  # longer than the page shows

SAMPLES: dict[str, dict[str, object]] = {
    'PARAMETERS_NOT_JSON': {'problem': 'Expecting value: line 1 column 1234 (char 1233)'},
    'NO_PARAMETERS': {},
    'NO_SETTINGS': {},
    'NO_LOCATION': {},
    'NOT_AN_INDEX': {'name': 'The channel of the connection', 'seen': TEXT},
    'CONNECTION_UNREADABLE': {'seen': TEXT},
    'SHARE_UNREADABLE': {'seen': TEXT},
    'NO_TRAINING_TAG': {},
    'NOT_TAGS': {'field': 'Training Tag', 'seen': TEXT, 'longest': 1000},
    'SAME_TAG': {'tags': 'nucleus example, cell example'},
    'UNKNOWN_MODEL': {'seen': TEXT, 'known': f'{MODEL}, sam_vit_mini2'},
    'CHECKPOINT_MISSING': {'model': MODEL, 'path': PATH},
    'NOT_A_NUMBER': {'field': 'Similarity Threshold', 'seen': TEXT, 'low': 0, 'high': 100_000_000},
    'OUT_OF_RANGE': {'field': 'Similarity Threshold', 'seen': TEXT, 'low': 0, 'high': 100_000_000},
    'NOT_WHOLE': {'field': 'Points per side', 'seen': TEXT, 'low': 0, 'high': 100_000_000},
    'NOT_A_CHOICE': {
        'field': 'Existing Outlines',
        'seen': TEXT,
        'choices': 'skip duplicates, replace earlier results, keep all',
    },
    'AREAS_SWAPPED': {'smallest': 100_000_000, 'largest': 99_999_999},
    'NOT_LOCATIONS': {'field': 'Batch Time', 'problem': f'{TEXT} is not a number or a range'},
    'LOCATIONS_OUTSIDE': {
        'field': 'Batch Time',
        'outside': '1001-1002, 1004-1005, 1007, 1009, ...',
        'length': 1000,
    },
    'BATCH_TOO_LARGE': {'count': 1_000_000_000, 'most': 100_000},
    'CHANNEL_OUTSIDE': {'channel': 12, 'channels': 11},
    'TILES_TOO_SMALL': {'size': 1024, 'side': 1000, 'smallest': 4000},
    'TOO_MANY_TILES': {'size': 64, 'count': 1_000_000},
    'CHECKPOINT_SIZE': {
        'model': MODEL,
        'size': 1_234_567_890,
        'expected': 2_564_550_879,
        'path': PATH,
    },
    'CHECKPOINT_DAMAGED': {
        'model': MODEL,
        'path': PATH,
        'algorithm': 'SHA-256',
        'seen': DIGEST,
        'expected': DIGEST,
    },
    'CHECKPOINT_WRONG': {'model': MODEL, 'path': PATH, 'expected': DIGEST},
    'DOWNLOAD_REFUSED': {
        'status': 404,
        'reason': 'Not Found',
        'file': 'sam_vit_h_4b8939.pth',
        'url': 'https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/idealistic-rat/1.2/files/'
        'vit_l.pt',
    },
    'DOWNLOAD_LOST': {'file': 'sam_vit_h_4b8939.pth', 'done': 2_345_678_901},
    'DOWNLOAD_NOT_WRITTEN': {'path': f'{PATH}.part', 'reason': 'No space left on device'},
    'NO_GPU': {'time': '47 h', 'model': 'vit_b_em_organelles', 'speed': 'fastest', 'least': '9 h'},
    'GPU_MEMORY': {},
    'READ_ONLY': {},
    'BAD_AXES': {'axis': 'XY', 'seen': TEXT, 'most': 1_000_000},
    'NO_VIEW': {},
    'NO_VISIBLE_LAYER': {},
    'VIEW_UNREADABLE': {'seen': TEXT},
    'LAYER_UNREADABLE': {'layer': "'DAPI, first round'", 'problem': "'#12345' is not a colour"},
    'NO_FRAME': {'location': LOCATION, 'channel': 12},
    'CHANNELS_DIFFER': {'location': LOCATION, 'first': (10_000, 10_000), 'second': (512, 512)},
    'ANNOTATIONS_UNREADABLE': {'seen': TEXT},
    'ANNOTATIONS_UNSORTED': {'following': ID, 'last': ID},
    'NO_EXAMPLE': {'tags': "'nucleus example' or 'cell example of the second day'"},
    'NO_USABLE_EXAMPLE': {'reasons': REASONS},
    'TAGS_OVERLAP': {'tags': "'nucleus example', 'cell example'", 'used': 1200, 'count': 1200},
    'ONLY_RESULTS': {'tags': "'nucleus example', 'cell example'", 'count': 12_345},
    'EXAMPLES_SKIPPED': {'skipped': 17, 'count': 120, 'reasons': REASONS},
    'BOTH_TAGS': {'count': 120, 'places': '; '.join(3 * [LOCATION])},
    'EXAMPLES_CHANGED': {'gone': 120, 'changed': 120},
    'EXAMPLES_SMALL_FOR_SOURCE': {'small': 120, 'count': 120},
    'OBJECTS_SMALL': {'width': 123.4, 'size': 4096},
    'EXAMPLES_OUTSIDE_LIMITS': {
        'outside': 120,
        'count': 120,
        'smallest': 12_345,
        'largest': 1_234_567,
    },
    'NOTHING_FOUND': {
        'frames': '1024 frames',
        'explanation': '12345 candidates: 3000 outside the area limits, 5000 less similar than '
        '0.85, 4345 like a counter-example. Highest similarity: 0.94. Lower Similarity Threshold.',
    },
    'THRESHOLD_LOW': {'threshold': 0.55, 'proposed': 0.841, 'lowest': 0.9012, 'highest': 0.9634},
    'MOSTLY_KNOWN': {'known': 123_456, 'found': 123_456},
    'NOTHING_REPLACED': {'reason': REASON},
    'RESULTS_NOT_REMOVED': {'location': LOCATION, 'reason': REASON},
    'AREAS_DIFFER': {
        'removed': 12_345,
        'count': 123_456,
        'smallest': 12_345,
        'largest': 123_456,
        'low': 12_345,
        'high': 100_000,
    },
    'GRID_COARSE': {'points': 100, 'seen': 0.21, 'proposed': 128, 'times': 41.4},
    'GRID_FINE': {
        'points': 128,
        'proposed': 103,
        'least': 4,
        'saved': '119 min',
        'whole': '119 min',
    },
    'NO_TAGS': {},
    'SCORES_NOT_SAVED': {'reason': REASON},
    'SCORES_LOST': {'location': LOCATION, 'reason': REASON},
    'CONNECTIONS_LOST': {'location': LOCATION, 'reason': REASON},
    'OBJECT_REFUSED': {'location': LOCATION, 'reason': REASON},
    'FRAME_FAILED': {'location': LOCATION, 'reason': REASON},
    'FRAMES_FAILED': {'failed': 1023, 'frames': '1024 frames'},
    'TIME_LIMIT': {'whole': '12 days', 'jobs': 64, 'each': '20 h'},
    'OTHER_NUMBER_OF_JOBS': {'shares': 63, 'jobs': 64},
    'SPLIT': {'jobs': 64, 'first': 'SAM few-shot of the nuclei in the second round (2 of 64)'},
    'TOO_MANY_EXAMPLES_TO_SPLIT': {'count': 12_345},
    'JOBS_NOT_STARTED': {'refused': 63, 'jobs': 64, 'reason': REASON},
    'CANCELLED': {},
}
