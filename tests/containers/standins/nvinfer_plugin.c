/* See nvinfer.c. */
int initLibNvInferPlugins(void) { return 1; }
