//! Labels, annotations and finalizers that Sparks puts on objects.

/// On a pod and a Service: name of the Spark that it serves.
pub const SPARK: &str = "sparks.loop.work/spark";
/// On a Volume: uid of the Spark or Checkpoint whose data it holds.
pub const OWNER_UID: &str = "sparks.loop.work/owner-uid";
/// On a Volume: name of the Spark or Checkpoint whose data it holds.
pub const OWNER_NAME: &str = "sparks.loop.work/owner-name";
/// On a Volume: `Spark` or `Checkpoint`.
pub const OWNER_KIND: &str = "sparks.loop.work/owner-kind";
/// On a Volume whose Spark was deleted: `true` while it waits in the trash.
pub const TRASHED: &str = "sparks.loop.work/trashed";
/// On a pod: name of the SparkPool that made it.
pub const POOL: &str = "sparks.loop.work/pool";
/// On a pod: what it is, one of the `ROLE_…` values.
pub const ROLE: &str = "sparks.loop.work/role";
/// Value of [`ROLE`]: a pod that waits in a pool for a Spark.
pub const ROLE_WARM: &str = "warm";
/// Value of [`ROLE`]: a pod that is, or is to become, one Spark's computer.
pub const ROLE_SPARK: &str = "spark";
/// Value of [`ROLE`]: a pod that only mounts an image so that the node agent can import it.
pub const ROLE_IMPORT: &str = "import";
/// On a pod of role [`ROLE_SPARK`]: uid of its Spark.
pub const SPARK_UID: &str = "sparks.loop.work/spark-uid";
/// Annotation on an import pod: the image reference.
pub const IMAGE: &str = "sparks.loop.work/image";
/// On an import pod: key of the base image, see `sparks_plan::names::image_key`.
pub const IMAGE_KEY: &str = "sparks.loop.work/image-key";

/// Annotation on a Spark: uid of a deleted Spark whose trashed data it takes up again (`spark undelete`).
pub const UNDELETE: &str = "sparks.loop.work/undelete";
/// Annotation on a Spark: a moment in RFC 3339; one that is later than it fell asleep wakes it (`spark start`).
pub const WAKE: &str = "sparks.loop.work/wake";
/// Annotation on a Volume: the Spark's spec, as JSON, so that `spark undelete` can restore the object too.
pub const SAVED_SPEC: &str = "sparks.loop.work/saved-spec";
/// Annotation on a Volume: a deadline in RFC 3339 after which the trash is emptied.
pub const TRASH_DEADLINE: &str = "sparks.loop.work/trash-deadline";

/// Annotation that a node agent keeps on its own pod: bytes of its pool in all.
pub const POOL_SIZE: &str = "sparks.loop.work/pool-size-bytes";
/// Annotation that a node agent keeps on its own pod: free bytes of its pool, less the reserve.
pub const POOL_FREE: &str = "sparks.loop.work/pool-free-bytes";
/// Annotation that a node agent keeps on its own pod: X25519 public key, in hex, to which secrets are sealed.
pub const PUBLIC_KEY: &str = "sparks.loop.work/public-key";

/// Finalizer on a Volume: the node agent must put the data into the trash first.
pub const VOLUME_FINALIZER: &str = "sparks.loop.work/volume";

/// Label selector of the node agents' pods.
pub const AGENT_SELECTOR: &str = "app.kubernetes.io/component=node,app.kubernetes.io/name=sparks";

/// Path in an import pod at which the image is mounted.
pub const IMPORT_MOUNT: &str = "/image";
