-- One shard: a table of vectors of one model with its graph. In each shard's own database:
--   psql -v model=4f3c… -v dim=384 -f shard.sql DATABASE
-- Of the vectors there are: SELECT DISTINCT model_id, length(vector) / 4 AS dim FROM embedding;
\set ON_ERROR_STOP on
\set table vector_ :model
\set graph vector_ :model _hnsw

CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE IF NOT EXISTS :"table" (id bigint PRIMARY KEY, vector halfvec(:dim) NOT NULL);
ALTER TABLE :"table" ALTER COLUMN vector SET STORAGE PLAIN; -- every query reads it
CREATE INDEX IF NOT EXISTS :"graph" ON :"table"
    USING hnsw (vector halfvec_ip_ops) WITH (m = 16, ef_construction = 200);

-- What the coordinator sets for its own transactions does not reach a shard. After the graph, which
-- makes these settings known: else only a superuser may keep them.
SELECT format('ALTER DATABASE %I SET %s', current_database(), setting)
FROM unnest(ARRAY['hnsw.ef_search = 200', 'hnsw.iterative_scan = relaxed_order']) AS setting \gexec
