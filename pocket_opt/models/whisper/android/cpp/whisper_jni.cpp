// What Whisper.kt calls.
#include <jni.h>

#include <memory>

#include "whisper.h"

namespace {

std::string string_of(JNIEnv* env, jstring text) {
  const char* letters = env->GetStringUTFChars(text, nullptr);
  std::string copy(letters);
  env->ReleaseStringUTFChars(text, letters);
  return copy;
}

// Runs `action`; what it throws becomes a RuntimeException there.
template <typename Result, typename Action>
Result guarded(JNIEnv* env, Action action) {
  try {
    return action();
  } catch (const std::exception& error) {
    env->ThrowNew(env->FindClass("java/lang/RuntimeException"), error.what());
    return Result{};
  }
}

}  // namespace

extern "C" JNIEXPORT jlong JNICALL Java_pocketopt_whisper_Whisper_nativeOpen(JNIEnv* env, jclass, jstring folder,
                                                                      jstring library, jint threads) {
  return guarded<jlong>(env, [&] {
    whisper::Npu npu;
    if (library != nullptr) npu.library = string_of(env, library);
    auto model = std::make_unique<whisper::Whisper>(string_of(env, folder), library == nullptr ? nullptr : &npu, threads);
    return reinterpret_cast<jlong>(model.release());
  });
}

// Bytes of UTF-8: JNI's own strings are of another encoding.
extern "C" JNIEXPORT jbyteArray JNICALL Java_pocketopt_whisper_Whisper_nativeTranscribe(JNIEnv* env, jclass, jlong model,
                                                                                 jfloatArray samples, jstring language,
                                                                                 jboolean translate) {
  return guarded<jbyteArray>(env, [&] {
    std::vector<float> copy(env->GetArrayLength(samples));
    env->GetFloatArrayRegion(samples, 0, static_cast<jsize>(copy.size()), copy.data());
    auto* whisper = reinterpret_cast<whisper::Whisper*>(model);
    const std::string said =
        whisper->text(whisper->tokens(std::move(copy), string_of(env, language), translate == JNI_TRUE));
    jbyteArray bytes = env->NewByteArray(static_cast<jsize>(said.size()));
    env->SetByteArrayRegion(bytes, 0, static_cast<jsize>(said.size()), reinterpret_cast<const jbyte*>(said.data()));
    return bytes;
  });
}

extern "C" JNIEXPORT void JNICALL Java_pocketopt_whisper_Whisper_nativeClose(JNIEnv*, jclass, jlong model) {
  delete reinterpret_cast<whisper::Whisper*>(model);
}
