-- The vectors of one model over shards, by patient. In the catalogue's database, after `similis` has
-- made its tables and before it opens this model:
--   psql -v model=4f3c… -v dim=384 -v shards=2 -f coordinator.sql DATABASE
-- The servers shard_0, shard_1, … and their user mappings must exist: see README.md.
\set ON_ERROR_STOP on
\set table vector_ :model
\set graph vector_ :model _hnsw
\set trigger vector_ :model _gone

CREATE EXTENSION IF NOT EXISTS vector;
SELECT format('ALTER DATABASE %I SET enable_partitionwise_aggregate = on', current_database()) \gexec

-- Asked once, when a row is put on its shard; nothing is ever looked for by it. So it may be called
-- immutable, and a patient who is renamed stays where they are.
CREATE OR REPLACE FUNCTION patient_of_embedding(embedding_id bigint) RETURNS text
LANGUAGE sql IMMUTABLE STRICT SET search_path FROM CURRENT AS $$
    SELECT coalesce(nullif(study.patient_id, ''), study.study_instance_uid)
    FROM embedding
    JOIN clip ON clip.id = embedding.clip_id
    JOIN series ON series.id = clip.series_id
    JOIN study ON study.id = series.study_id
    WHERE embedding.id = embedding_id
$$;

CREATE TABLE IF NOT EXISTS :"table" (id bigint NOT NULL, vector halfvec(:dim) NOT NULL)
    PARTITION BY HASH (patient_of_embedding(id));
SELECT format(
    'CREATE FOREIGN TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)'
    ' SERVER %I OPTIONS (table_name %L)',
    format('%s_%s', :'table', shard), :'table', :shards, shard, format('shard_%s', shard), :'table')
FROM generate_series(0, :shards - 1) AS shard \gexec

-- Holds nothing itself: it says that the shards have graphs.
CREATE INDEX IF NOT EXISTS :"graph" ON :"table" USING hnsw (vector halfvec_ip_ops);

-- Foreign tables have no foreign keys: a vector leaves with its embedding by this.
CREATE OR REPLACE FUNCTION remove_from_shards() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I WHERE id = ANY ($1)', TG_ARGV[0])
        USING ARRAY(SELECT id FROM gone);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER :"trigger" AFTER DELETE ON embedding
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
    EXECUTE FUNCTION remove_from_shards(:'table');
