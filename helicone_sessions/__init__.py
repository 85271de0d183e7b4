from helicone_sessions.filters.columns import F
from helicone_sessions.filters.filter import ALL, NONE, Filter, all_of, any_of
