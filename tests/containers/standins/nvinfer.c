/* TensorRT's library as far as the images' build asks it: its version, and the names that the Python bindings load. */
int getInferLibMajorVersion(void) { return 11; }
int getInferLibMinorVersion(void) { return 4; }
int getInferLibPatchVersion(void) { return 0; }
int getInferLibBuildVersion(void) { return 106; }
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
