-- The tables of a review queue as schema version 2 made them.
CREATE TABLE current_model (
    id INTEGER NOT NULL,
    model_version VARCHAR,
    generation INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT current_model_single CHECK (id = 1),
    CONSTRAINT current_model_set CHECK ((generation = 0) = (model_version IS NULL))
);
CREATE TABLE gates (
    gate_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    model_version VARCHAR NOT NULL,
    compared_with VARCHAR,
    metrics TEXT NOT NULL,
    passed INTEGER NOT NULL,
    reason VARCHAR NOT NULL,
    at DOUBLE NOT NULL,
    CONSTRAINT gates_passed CHECK (passed IN (0, 1))
);
CREATE TABLE items (
    item_id VARCHAR NOT NULL,
    image_id VARCHAR NOT NULL,
    file_name VARCHAR NOT NULL,
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    model_version VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    iteration INTEGER NOT NULL,
    priority DOUBLE NOT NULL,
    state VARCHAR NOT NULL,
    lease_token INTEGER NOT NULL,
    lease_owner VARCHAR,
    leased_at DOUBLE,
    lease_expires DOUBLE,
    attempts INTEGER NOT NULL,
    skips INTEGER NOT NULL,
    openings INTEGER NOT NULL,
    dead_reason VARCHAR,
    PRIMARY KEY (item_id),
    CONSTRAINT items_once UNIQUE (image_id, model_version, stage),
    CONSTRAINT items_state CHECK (state IN ('ready', 'leased', 'done', 'dead')),
    CONSTRAINT items_lease CHECK ((state = 'leased') = (lease_owner IS NOT NULL) AND (state = 'leased') = (leased_at IS NOT NULL) AND (state = 'leased') = (lease_expires IS NOT NULL)),
    CONSTRAINT items_dead_reason CHECK ((state = 'dead') = (dead_reason IS NOT NULL)),
    CONSTRAINT items_counts CHECK (attempts >= 0 AND skips >= 0 AND openings >= 1)
);
CREATE INDEX items_by_run ON items (run_id, state);
CREATE INDEX items_closed ON items (state, item_id) WHERE state = 'done' OR state = 'dead';
CREATE INDEX items_leased ON items (lease_expires) WHERE state = 'leased';
CREATE UNIQUE INDEX items_one_lease_each ON items (lease_owner) WHERE state = 'leased';
CREATE INDEX items_ready ON items (skips, priority DESC, item_id) WHERE state = 'ready';
CREATE TABLE people (
    name VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    token_sha256 VARCHAR NOT NULL,
    created_at DOUBLE NOT NULL,
    revoked_at DOUBLE,
    PRIMARY KEY (name),
    CONSTRAINT people_role CHECK (role IN ('annotator', 'lead')),
    UNIQUE (token_sha256)
);
CREATE TABLE schema_version (
    version INTEGER NOT NULL
);
CREATE TABLE payloads (
    item_id VARCHAR NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (item_id),
    FOREIGN KEY(item_id) REFERENCES items (item_id)
);
CREATE TABLE promotions (
    generation INTEGER NOT NULL,
    model_version VARCHAR NOT NULL,
    gate_id INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    restores INTEGER NOT NULL,
    at DOUBLE NOT NULL,
    PRIMARY KEY (generation),
    CONSTRAINT promotions_kind CHECK (kind IN ('promote', 'rollback')),
    FOREIGN KEY(gate_id) REFERENCES gates (gate_id)
);
CREATE TABLE sessions (
    id_sha256 VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    csrf_token VARCHAR NOT NULL,
    created_at DOUBLE NOT NULL,
    expires_at DOUBLE NOT NULL,
    PRIMARY KEY (id_sha256),
    FOREIGN KEY(name) REFERENCES people (name)
);
CREATE INDEX sessions_by_name ON sessions (name);
CREATE TABLE submissions (
    annotator VARCHAR NOT NULL,
    idempotency_key VARCHAR NOT NULL,
    submission_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    body_sha256 VARCHAR NOT NULL,
    status INTEGER NOT NULL,
    response TEXT NOT NULL,
    at DOUBLE NOT NULL,
    PRIMARY KEY (annotator, idempotency_key),
    UNIQUE (submission_id),
    FOREIGN KEY(item_id) REFERENCES items (item_id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE annotations (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    submission_id VARCHAR NOT NULL,
    item_id VARCHAR NOT NULL,
    ordinal INTEGER NOT NULL,
    annotator VARCHAR NOT NULL,
    lease_token INTEGER NOT NULL,
    body TEXT NOT NULL,
    body_sha256 VARCHAR NOT NULL,
    at DOUBLE NOT NULL,
    num_accepted INTEGER DEFAULT 0 NOT NULL,
    num_edited INTEGER DEFAULT 0 NOT NULL,
    num_rejected INTEGER DEFAULT 0 NOT NULL,
    num_added INTEGER DEFAULT 0 NOT NULL,
    num_clicks INTEGER DEFAULT 0 NOT NULL,
    seconds DOUBLE DEFAULT 0 NOT NULL,
    CONSTRAINT annotations_once UNIQUE (item_id, ordinal),
    UNIQUE (submission_id),
    FOREIGN KEY(submission_id) REFERENCES submissions (submission_id),
    FOREIGN KEY(item_id) REFERENCES items (item_id)
);
CREATE INDEX annotations_by_annotator ON annotations (annotator, at, item_id, num_accepted, num_edited, num_rejected, num_added, num_clicks, seconds);
CREATE INDEX annotations_by_time ON annotations (at, num_accepted, num_edited, num_added);
INSERT INTO schema_version VALUES (2);
INSERT INTO current_model VALUES (1, NULL, 0);
