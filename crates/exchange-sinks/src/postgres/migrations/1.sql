-- The tables of schema 1 of the data contract: one for each type of event. `at` is when a fact was (its own time, or where
-- the venue sends none when it was received): what tables are divided by, and with `id` what tells repetition.
-- What stands between two per cent signs depends on whether TimescaleDB is there.

CREATE TABLE positions (
    journal text PRIMARY KEY,
    number bigint NOT NULL,
    stored timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rejected (
    id uuid PRIMARY KEY,
    type text NOT NULL,
    reason text NOT NULL,
    line text NOT NULL,
    rejected timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE "ticker" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "last" numeric,
    "last_size" numeric,
    "bid" numeric,
    "bid_size" numeric,
    "ask" numeric,
    "ask_size" numeric,
    "open_24h" numeric,
    "high_24h" numeric,
    "low_24h" numeric,
    "volume_24h" numeric,
    "turnover_24h" numeric,
    "change_24h" numeric,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "ticker" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "quote" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "bid" numeric,
    "bid_size" numeric,
    "ask" numeric,
    "ask_size" numeric,
    "seq" text,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "quote" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "mark" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "mark" numeric,
    "index" numeric,
    "basis" numeric,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "mark" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "funding" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "rate" numeric,
    "next_time" timestamptz,
    "interval_hours" bigint,
    "predicted_rate" numeric,
    "cap" numeric,
    "floor" numeric,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "funding" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "funding_settled" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "rate" numeric NOT NULL,
    "time" timestamptz NOT NULL,
    "mark" numeric,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "funding_settled" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "open_interest" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "value" numeric,
    "value_base" numeric,
    "value_quote" numeric,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "open_interest" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "trade" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "trade_id" text,
    "price" numeric NOT NULL,
    "size" numeric NOT NULL,
    "size_base" numeric,
    "side" text,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "trade" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "liquidation" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "price" numeric NOT NULL,
    "size" numeric NOT NULL,
    "size_base" numeric,
    "side" text,
    "trade_id" text,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "liquidation" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "book" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "kind" text NOT NULL,
    "bids" numeric[] NOT NULL,
    "asks" numeric[] NOT NULL,
    "seq" text,
    "prev_seq" text,
    "checksum" text,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "book" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "candle" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "interval" text NOT NULL,
    "open_time" timestamptz NOT NULL,
    "open" numeric NOT NULL,
    "high" numeric NOT NULL,
    "low" numeric NOT NULL,
    "close" numeric NOT NULL,
    "volume" numeric NOT NULL,
    "turnover" numeric,
    "trades" bigint,
    "closed" boolean NOT NULL,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "candle" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "instrument" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "kind" text NOT NULL,
    "base" text NOT NULL,
    "quote" text NOT NULL,
    "settle" text,
    "contract_size" numeric,
    "tick_size" numeric,
    "lot_size" numeric,
    "min_size" numeric,
    "expiry" timestamptz,
    "status" text NOT NULL,
    "funding_interval_hours" bigint,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "instrument" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "gap" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "channel" text NOT NULL,
    "reason" text NOT NULL,
    "from" text,
    "to" text,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "gap" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "refill" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "gap" text NOT NULL,
    "channel" text NOT NULL,
    "from" text,
    "to" text,
    "count" bigint NOT NULL,
    "complete" boolean NOT NULL,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "refill" ("venue", "market", "venue_symbol", "at");

CREATE TABLE "decode_error" (
    "at" timestamptz NOT NULL,
    "id" uuid NOT NULL,
    "venue" text NOT NULL,
    "market" text NOT NULL,
    "venue_symbol" text,
    "symbol" text,
    "t" timestamptz NOT NULL,
    "et" timestamptz,
    "origin" text,
    "reason" text NOT NULL,
    "excerpt" text NOT NULL,
    PRIMARY KEY ("id", "at")
) %PARTITION%;
CREATE INDEX ON "decode_error" ("venue", "market", "venue_symbol", "at");
