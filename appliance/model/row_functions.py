"""The server's functions by which a name behind a row is a call, or behind a call a column (PostgreSQL 15 to 18;
documentation 8.16.5, "Using Composite Types in Queries")."""

from __future__ import annotations

from typing import Final

# They take one row of any type and tell of its values: `row.to_json` calls one where the row has no such column.
_OF_ANY_ROW: Final = """any_out any_value anycompatible_out anycompatiblenonarray_out anyelement_out anynonarray_out
    array_agg concat hash_record json_agg json_agg_strict json_build_array jsonb_agg jsonb_agg_strict jsonb_build_array
    max min pg_column_size quote_literal quote_nullable record_out record_send row_to_json to_json to_jsonb"""
OF_ANY_ROW: Final = frozenset(_OF_ANY_ROW.split())

# They give rows: a name behind a call of theirs is a field, and no function. `each` is hstore's; those that populate a
# record give the type that they are given.
_GIVING_ROWS: Final = """_pg_expandarray aclexplode each json_each json_each_text json_populate_record
    json_populate_recordset json_to_record json_to_recordset jsonb_each jsonb_each_text jsonb_populate_record
    jsonb_populate_recordset jsonb_to_record jsonb_to_recordset pg_available_extension_versions pg_available_extensions
    pg_cursor pg_extension_update_paths pg_get_catalog_foreign_keys pg_get_keywords pg_get_object_address
    pg_get_publication_tables pg_get_sequence_data pg_identify_object pg_identify_object_as_address pg_input_error_info
    pg_options_to_table pg_partition_tree pg_prepared_statement pg_sequence_parameters pg_show_all_settings pg_stat_file
    pg_timezone_abbrevs pg_timezone_names ts_debug ts_parse ts_stat ts_token_type"""
GIVING_ROWS: Final = frozenset(_GIVING_ROWS.split())
