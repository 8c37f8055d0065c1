"""Compares the ids in all sinks with each other, with the trades that were served, and with the collector's ledger."""

import glob
import json
import sys

import duckdb

dataset, postgres, redis, trades, ledger, folder, since = sys.argv[1:]
database = duckdb.connect()
database.execute("SET memory_limit = '3GB'")
database.execute("SET preserve_insertion_order = false")
database.execute("SET enable_progress_bar = false")
database.execute(f"SET temp_directory = '{folder}/spilled'")


def listed(path, more=""):
    return f"read_csv('{path}', auto_detect = false, header = false, columns = {{'id': 'UUID'{more}}})"


kinds = [f"SELECT id::UUID AS id FROM '{kind}/**/*.parquet'" for kind in glob.glob(dataset + "/type=*")]
places = {"parquet": f"({' UNION ALL '.join(kinds)})", "postgres": listed(postgres), "redis": listed(redis), "served": listed(trades, ", 'et': 'BIGINT'") + f" WHERE et >= {since}"}
names = list(places)
flags = [", ".join(f"{int(name == other)}::UTINYINT AS {other}" for other in names) for name in names]
every = " UNION ALL ".join(f"SELECT id, {flag} FROM {place}" for flag, place in zip(flags, places.values()))
sums = ", ".join(f"sum({name})::INT AS {name}" for name in names)
# How many ids there are in which places, and how often.
found = database.sql(f"SELECT {', '.join(names)}, count(*) FROM (SELECT {sums} FROM ({every}) GROUP BY id) GROUP BY ALL ORDER BY ALL").fetchall()
wrong = [row for row in found if row[:3] != (1, 1, 1)]
if wrong:
    sys.exit(f"ids that are not in each place once, as often as ({', '.join(names)}), and how many: {wrong}")
events = sum(row[4] for row in found)
served = sum(row[4] for row in found if row[3] > 0)
if not served:
    sys.exit("no trade was served")

account = json.load(open(ledger))["ledgers"][0]
passed = sum(row["passed"] for row in account["rows"])
written = {sink: sum(row["sinks"].get(sink, {}).get("written", 0) for row in account["rows"]) for sink in account["sinks"]}
if passed != events or len(written) != 3 or any(count != events for count in written.values()):
    sys.exit(f"{events} ids in each sink, but by the ledger {passed} events were passed on, and written: {written}")
print(f"{events} ids, each once in each of {len(written)} sinks, as the ledger says; all of {served} trades that were served are among them")
