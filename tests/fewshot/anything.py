"""Hypothesis strategies for what a server or another client can store, however odd."""

from hypothesis import strategies as st

SQUARE = [{'x': 1, 'y': 1}, {'x': 9, 'y': 1}, {'x': 9, 'y': 9}, {'x': 1, 'y': 9}]
GOOD = {'_id': 'a', 'coordinates': SQUARE, 'location': {'XY': 0, 'Z': 0, 'Time': 0}}

extreme_numbers = st.sampled_from([1e9, -1e9, 1e12, 1e308, -1e308, 10**400, 0.5, 2**63])
numbers = st.integers() | st.floats() | extreme_numbers
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)

points = st.fixed_dictionaries(
    {}, optional={'x': numbers | json_values, 'y': numbers | json_values}
)
locations = st.fixed_dictionaries(
    {}, optional={axis: json_values | st.integers(-1, 2) for axis in ('XY', 'Z', 'Time')}
)
annotations = json_values | st.fixed_dictionaries(
    {},
    optional={
        '_id': json_values | st.just('a'),
        'coordinates': json_values | st.lists(points | json_values, max_size=5) | st.just(SQUARE),
        'location': json_values | locations,
    },
)
