"""Values of any kind, as a server or a user might send them."""

from hypothesis import strategies as st

SQUARE = [{'x': 1, 'y': 1}, {'x': 9, 'y': 1}, {'x': 9, 'y': 9}, {'x': 1, 'y': 9}]
SPECIAL_NUMBERS = [1e9, -1e9, 1e12, 1e308, -1e308, 10**400, 0.5, 2**63]

numbers = st.integers() | st.floats() | st.sampled_from(SPECIAL_NUMBERS)

json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)

points = st.fixed_dictionaries({}, optional={'x': json_values, 'y': json_values})
locations = st.dictionaries(st.sampled_from(['XY', 'Z', 'Time']), st.integers(-1, 2) | json_values)

# records that look like annotations, with anything in any place
annotations = json_values | st.fixed_dictionaries(
    {},
    optional={
        '_id': st.just('a') | json_values,
        'coordinates': st.just(SQUARE) | st.lists(points | json_values, max_size=5) | json_values,
        'location': locations | json_values,
    },
)
