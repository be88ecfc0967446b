-- What is known of each tenant's documents beyond what the engines index. One row a fact, so that a changed document
-- changes its own rows only. Vectors are little-endian arrays: float16 for passages and centroids, int8 for segments.
CREATE TABLE IF NOT EXISTS checkpoint (log TEXT NOT NULL, sequence INTEGER NOT NULL); -- one row

CREATE TABLE IF NOT EXISTS tenants (
    tenant TEXT PRIMARY KEY,
    documents INTEGER NOT NULL,
    passages INTEGER NOT NULL,
    words INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- no number comes again: what is known of one stays true
    tenant TEXT NOT NULL,
    document TEXT NOT NULL,
    point INTEGER NOT NULL UNIQUE, -- of the whole document in the engines
    revision TEXT NOT NULL,
    title TEXT NOT NULL,
    metadata BLOB NOT NULL, -- JSON
    size INTEGER NOT NULL, -- passages
    length INTEGER NOT NULL, -- words
    centroid BLOB NOT NULL, -- empty where there is one passage, as the four below
    terms BLOB NOT NULL, -- uint32, ascending
    counts BLOB NOT NULL, -- uint16
    spread BLOB NOT NULL, -- uint16: in how many passages each term occurs
    UNIQUE (tenant, document)
);

CREATE INDEX IF NOT EXISTS documents_by_revision ON documents (tenant, document, revision); -- a version reads no blobs

CREATE TABLE IF NOT EXISTS passages (
    id INTEGER PRIMARY KEY,
    point INTEGER NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    document INTEGER NOT NULL REFERENCES documents (id),
    length INTEGER NOT NULL,
    towards REAL NOT NULL, -- cosine of passage and centroid
    vector BLOB NOT NULL,
    terms BLOB NOT NULL,
    counts BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS passages_by_document ON passages (document);

-- Apart from `passages`, so that scoring words and vectors does not read them. Same ids.
CREATE TABLE IF NOT EXISTS segments (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (id INTEGER PRIMARY KEY, chunk BLOB NOT NULL); -- msgpack

CREATE TABLE IF NOT EXISTS terms (
    tenant TEXT NOT NULL,
    term INTEGER NOT NULL,
    documents INTEGER NOT NULL,
    passages INTEGER NOT NULL,
    PRIMARY KEY (tenant, term)
) WITHOUT ROWID;
