//! Runs of countersignd.

super::statements! {
    IS_ALIVE = "SELECT node_id FROM nodes WHERE node_id = $1 AND ended IS NULL";
    NODES = "SELECT node_id, name, joined, until, ended FROM nodes \
        WHERE ended IS NULL OR ended > $1 ORDER BY joined, node_id";
    JOIN = "INSERT INTO nodes (node_id, name, joined, until, ended) VALUES ($1, $2, $3, $4, NULL) \
        ON CONFLICT DO NOTHING";
    RENEW = "UPDATE nodes SET until = $2 WHERE node_id = $1 AND ended IS NULL";
    END = "UPDATE nodes SET ended = $2 WHERE node_id = $1 AND ended IS NULL";
    /// A node that left something open stays until it is closed: recovery asks who is alive.
    FORGET_NODES = "DELETE FROM nodes WHERE ended < $1 \
        AND node_id NOT IN (SELECT node_id FROM open_authorisations)";
}
